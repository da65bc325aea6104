#pragma once

#include <exception>
#include <string>
#include <type_traits>

#include "troupe/config/error.hpp"

namespace troupe {

/// Runs `f`; an exception becomes `code` with its text as context. `f` may itself return a
/// `caf::expected`, which is passed on as it is.
template <class F>
auto guarded(ec code, F&& f) {
  using result = decltype(f());
  using answer = typename decltype([] {
    if constexpr (requires(result r) {
                    r.error();
                    r.engaged();
                  })
      return std::type_identity<result>{};
    else
      return std::type_identity<caf::expected<result>>{};
  }())::type;
  try {
    if constexpr (std::is_void_v<result>) {
      f();
      return answer{caf::unit};
    } else {
      return answer{f()};
    }
  } catch (const std::exception& x) {
    return answer{caf::make_error(code, std::string{x.what()})};
  }
}

} // namespace troupe
