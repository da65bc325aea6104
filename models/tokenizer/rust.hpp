#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "troupe/models/tokenizer/shim.h"

/// Conversions between the shim's strings and ours.
namespace troupe::tokenizing {

inline tt_slice slice(std::string_view text) {
  return {text.data(), text.size()};
}

/// A string that the shim allocated.
class rust_string {
public:
  rust_string() = default;
  rust_string(const rust_string&) = delete;
  rust_string& operator=(const rust_string&) = delete;
  ~rust_string() { tt_string_free(&raw_); }

  tt_string* out() { return &raw_; }
  std::string str() const {
    return raw_.size == 0 ? std::string{} : std::string{raw_.data, raw_.size};
  }

private:
  tt_string raw_{nullptr, 0};
};

} // namespace troupe::tokenizing
