#pragma once

#include <memory>

#include <caf/all.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/actors/tokenizer_pool.hpp"
#include "troupe/models/tokenizer/chat_template.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe {

/// What the texts of a model are made with; read-only, shared by the whole pool and by requests.
struct text_tools {
  tokenizer_ptr tok;
  chat_template_ptr chat; ///< Null: the model has none.
  /// Requests may bring a template. Only for trusted clients: a hostile one can exhaust a stack.
  bool trust_request_template = false;
};
using text_tools_ptr = std::shared_ptr<const text_tools>;

/// Renders and encodes one prompt; what the tokenizer actor does for a job. Text that cannot fit
/// `job.context` is refused before it is encoded, unless it is to be truncated.
/// Errors: ec::prompt_too_long, template_failed, invalid_request.
caf::expected<encoded_prompt> encode_prompt(const text_tools& tools, const encode_job& job);

/// The text that `p` is encoded from: itself, or the rendered chat. A template that fails with a
/// generation prompt is tried without. Errors: ec::template_failed, invalid_request.
caf::expected<std::string> render_prompt(const text_tools& tools, const prompt& p);

/// The refusal of a prompt that leaves no room for an answer; `tokens` is a number or a bound.
caf::error prompt_too_long(std::string_view tokens, uint32_t context);

struct tokenizer_state {
  static constexpr const char* name = "tokenizer";
};

/// One of a pool of N, detached: renders templates and encodes on a thread of its own (8 MB of
/// stack, of which templates may need one).
tokenizer_actor::behavior_type
tokenizer_behavior(tokenizer_actor::stateful_pointer<tokenizer_state> self, text_tools_ptr tools,
                   tokenizer_pool::backlog backlog, telemetry::metrics_ptr metrics);

} // namespace troupe
