#pragma once

#include <memory>
#include <vector>

#include "troupe/actors/choice.hpp"
#include "troupe/actors/generation.hpp"
#include "troupe/actors/interfaces.hpp"
#include "troupe/models/stage.hpp"

namespace troupe {

/// What a request comes to on a certain model: plain functions, so that every limit can be tested
/// without an actor.

/// Bytes of stop strings that one request may bring; more is certainly not meant seriously.
inline constexpr size_t max_stop_bytes = 64 * 1024;

/// Choices that one request may ask for.
inline constexpr uint32_t max_choices = 128;

/// Beams, or candidates of contrastive search, that one request may ask for.
inline constexpr uint32_t max_lanes = 64;

/// Checks everything that can be told before the prompt is encoded. Errors: ec::invalid_request,
/// the sentence names the parameter.
caf::error check_request(const generation_request& request, const models::model_info& info);

/// Checks the encoded prompt against the model. Errors: ec::prompt_too_long, invalid_request.
caf::error check_prompt(const std::vector<int32_t>& tokens, const models::model_info& info);

/// Checks the prompt's length against max_length. Errors: ec::invalid_request.
caf::error check_length(const generation_params& params, size_t prompt_tokens);

/// Tokens to generate behind a prompt of that length: what was asked for, or what the context
/// holds.
/// @pre check_prompt found nothing
uint32_t room_for(const generation_params& params, size_t prompt_tokens,
                  const models::model_info& info);

/// What the request's choices share. @param max_new_tokens From `room_for`.
std::shared_ptr<const choice_rules> make_rules(const generation_params& params, tokenizer_ptr tok,
                                               const models::model_info& info,
                                               uint32_t max_new_tokens);

/// Choice `index` of the request as the scheduler wants it.
new_sequence make_sequence(const generation_request& request, const models::model_info& info,
                           std::vector<int32_t> prompt, uint32_t max_new_tokens, uint32_t index);

/// The prompt's part of a first token: what the model said of it.
/// @param prompt Its tokens. @param first What came with the first token.
prompt_event describe_prompt(const generation_params& params, const tokenizer& tok,
                             const std::vector<int32_t>& prompt, const row_result& first);

/// What a batch costs its receiver's credit: its texts, and 256 for each token's surroundings.
uint32_t weigh(const event_batch& batch);

} // namespace troupe
