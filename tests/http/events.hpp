#pragma once

#include <string>
#include <utility>

#include "troupe/config/error.hpp"
#include "troupe/http/dialects/dialect.hpp"
#include "troupe/http/json/value.hpp"

/// Makers of what dialects are fed, for tests without an engine.
namespace troupe::test {

inline token_event token(int32_t id, std::string text, float logprob = -0.25f,
                         uint32_t choice = 0) {
  token_event out;
  out.choice = choice;
  out.token.id = id;
  out.token.bytes = text;
  out.token.text = std::move(text);
  out.token.logprob = logprob;
  return out;
}

inline choice_event ending(finish_reason reason, std::string text, uint32_t tokens,
                           uint32_t choice = 0, double cumulative = -1) {
  choice_event out;
  out.choice = choice;
  out.reason = reason;
  out.generated_text = std::move(text);
  out.generated_tokens = tokens;
  out.cumulative_logprob = cumulative;
  return out;
}

inline event_batch prompt_of(uint32_t tokens) {
  event_batch out;
  out.prompt.emplace_back();
  out.prompt.back().token_count = tokens;
  return out;
}

inline event_batch batch(std::vector<token_event> tokens) {
  event_batch out;
  out.tokens = std::move(tokens);
  return out;
}

inline event_batch last(std::vector<token_event> tokens, std::vector<choice_event> ends) {
  event_batch out;
  out.tokens = std::move(tokens);
  out.ends = std::move(ends);
  out.complete = true;
  return out;
}

inline http::json::value parsed(std::string_view text) {
  auto out = http::json::parse(text);
  if (!out)
    throw std::runtime_error(text_of(out.error()));
  return std::move(*out);
}

/// What a writer makes of these batches.
inline std::string written(http::answer_writer& writer, std::vector<event_batch> batches) {
  std::string out;
  for (auto& one : batches)
    writer.take(0, one, out);
  return out;
}

inline http::generation_job job_of(http::parsed_job parsed) {
  if (auto* why = std::get_if<http::problem>(&parsed))
    throw std::runtime_error(why->message);
  return std::move(std::get<http::generation_job>(parsed));
}

/// "parameter: message", or "" when it was accepted.
inline std::string complaint(const http::parsed_job& parsed) {
  auto* why = std::get_if<http::problem>(&parsed);
  return why ? why->parameter + ": " + why->message : "";
}

} // namespace troupe::test
