#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

struct tt_template;

namespace troupe {

class chat_template;
using chat_template_ptr = std::shared_ptr<const chat_template>;

/// The chat templates of a model, compiled: Jinja as transformers sets it up, equal in its output.
/// Threading: const means safe, shared by all threads; a thread that renders needs 1 MB of stack.
///
/// Templates come from the model folder. Rendering ends by itself (instructions, output and depth
/// of calls are limited), but a template written by somebody hostile can exhaust memory: compile
/// one out of a request only if the operator said that requests are trusted.
class chat_template {
public:
  /// Compiles what the folder has: chat_template.jinja and additional_chat_templates/*.jinja; else
  /// `chat_template` of tokenizer_config.json (a text or a list of named ones); else that of
  /// chat_template.json. Null when the folder has no template. Errors: ec::bad_model
  /// with the file, the line and what the compiler says.
  static caf::expected<chat_template_ptr> open(const std::filesystem::path& folder,
                                               const tokenizer& tok);

  /// Compiles the one template in a file. Errors: as `open`.
  static caf::expected<chat_template_ptr> open_file(const std::filesystem::path& file,
                                                    const tokenizer& tok);

  /// Compiles one template. Errors: ec::template_failed with what the compiler says.
  static caf::expected<chat_template_ptr> compile(std::string_view source, const tokenizer& tok);

  chat_template(const chat_template&) = delete;
  chat_template& operator=(const chat_template&) = delete;
  ~chat_template();

  /// Renders a conversation.
  /// @param context A JSON object: `messages` (a non-empty array), and, if wanted, `tools`,
  ///   `documents`, `add_generation_prompt` (default false), `continue_final_message` (the prompt
  ///   ends within the last message) and whatever else the template reads (chat_template_kwargs,
  ///   merged in by the caller). The special tokens' texts are put in here unless given.
  /// @param name Of several templates, this one; empty: `tool_use` if there is one and the context
  ///   has tools, else `default`.
  /// @returns The prompt's text. It carries its special tokens: encode it with add_special = false.
  /// Errors: ec::invalid_request for a context that is not such an object, ec::template_failed with
  /// the text of raise_exception or of the failure, also when the template runs away.
  caf::expected<std::string> render(std::string_view context, std::string_view name = {}) const;

  /// As above at a given second since 1970 for strftime_now, local time; for tests.
  caf::expected<std::string> render_at(int64_t now, std::string_view context,
                                       std::string_view name = {}) const;

  /// Names of the templates, "default" among them when there is an unnamed one.
  std::vector<std::string> names() const;

private:
  struct handle_deleter {
    void operator()(tt_template*) const;
  };
  struct entry {
    std::string name;
    std::unique_ptr<tt_template, handle_deleter> handle;
  };

  chat_template() = default;
  caf::expected<caf::unit_t> add(std::string name, std::string_view source,
                                 const std::string& roles_json);
  caf::expected<const entry*> choose(std::string_view name, std::string_view context) const;

  std::vector<entry> entries_;
};

} // namespace troupe
