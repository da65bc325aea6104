#include "troupe/examples/load_test/report/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace troupe::load_test::report {

std::string terminal_style::in(std::string_view code, std::string_view x) const {
  if (!color)
    return std::string{x};
  std::string out = "\x1b[";
  out.append(code).append("m").append(x).append("\x1b[0m");
  return out;
}

terminal_style style_of(std::FILE* stream) {
  terminal_style style;
  auto file = fileno(stream);
  auto* kind = std::getenv("TERM");
  auto dumb = kind && std::string_view{kind} == "dumb";
  style.terminal = isatty(file) == 1 && !dumb;
  auto* no_color = std::getenv("NO_COLOR");
  style.color = style.terminal && !(no_color && *no_color != '\0');
  winsize size{};
  if (style.terminal && ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    style.width = std::clamp<size_t>(size.ws_col, 20, 400);
  return style;
}

} // namespace troupe::load_test::report
