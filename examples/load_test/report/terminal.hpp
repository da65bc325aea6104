#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace troupe::load_test::report {

/// How text is written for a stream.
struct terminal_style {
  bool terminal = false; ///< Lines may be redrawn in place.
  bool color = false;
  size_t width = 100; ///< Columns.

  std::string bold(std::string_view x) const { return in("1", x); }
  std::string dim(std::string_view x) const { return in("2", x); }
  std::string red(std::string_view x) const { return in("1;31", x); }
  std::string green(std::string_view x) const { return in("32", x); }
  std::string yellow(std::string_view x) const { return in("33", x); }

private:
  std::string in(std::string_view code, std::string_view x) const;
};

/// What the stream is now: a terminal is asked for its width at every call. No colour off a
/// terminal, with TERM=dumb, or where NO_COLOR is set to anything (https://no-color.org).
terminal_style style_of(std::FILE* stream);

} // namespace troupe::load_test::report
