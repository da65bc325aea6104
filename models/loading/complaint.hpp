#pragma once

#include <string>
#include <string_view>

#include "troupe/config/error.hpp"

namespace troupe::models {

/// Builds the sentences of one file's errors.
struct complaint {
  const std::string& path;

  caf::error operator()(const std::string& what) const {
    return caf::make_error(ec::bad_model, "'" + path + "': " + what);
  }
  caf::error operator()(std::string_view tensor, const std::string& what) const {
    return (*this)("tensor '" + std::string{tensor} + "' " + what);
  }
};

} // namespace troupe::models
