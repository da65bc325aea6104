#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/client/target.hpp"
#include "troupe/examples/load_test/dialects/dialect.hpp"

namespace troupe::load_test {

/// Counts tokens as the served model does.
class token_counter {
public:
  virtual ~token_counter() = default;

  /// Of a text, with the special tokens that the model gets in front of it.
  virtual caf::expected<uint32_t> count(const std::string& text) = 0;
  /// Of one user message within the model's chat template.
  virtual caf::expected<uint32_t> count_chat(const std::string& text) = 0;
  /// For people: what counts.
  virtual std::string name() const = 0;
};

/// The tokenizer of a model folder. Errors: ec::bad_model, ec::bad_option.
caf::expected<std::unique_ptr<token_counter>> open_tokenizer(const std::filesystem::path& folder);

/// The server's own /tokenize, as Troupe and vLLM have it. Errors: whatever one call to it met.
caf::expected<std::unique_ptr<token_counter>> ask_server(const target& to, std::string model);

} // namespace troupe::load_test
