#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/actors/registration.hpp"
#include "troupe/actors/scheduling/search_params.hpp"
#include "troupe/models/stage.hpp"
#include "troupe/models/step.hpp"

/// What a front end asks of the engine and what comes back: plain values, whatever the dialect.
namespace troupe {

enum class prompt_kind : uint8_t {
  text,   ///< `text` is encoded as it stands.
  tokens, ///< `tokens` are used as they are.
  chat, ///< `text` is a JSON object {"messages": [...], "tools"?, "documents"?, ...kwargs} for the
        ///< template.
};

struct prompt {
  prompt_kind kind = prompt_kind::text;
  std::string text;
  std::vector<int32_t> tokens;
  std::string cached_prefix;      ///< Encoded apart and put in front (contract generation.md §8).
  bool add_special_tokens = true; ///< Text prompts only; rendered chats never get them again.
  bool add_generation_prompt = true; ///< Chat only.
  std::string chat_template; ///< Overrides the model's, where the server trusts requests' own.
};

enum class finish_reason : uint8_t { none, length, eos_token, stop_sequence, error };

/// The wire word of the LMI dialect: length, eos_token, stop_sequence, error.
std::string_view to_string_view(finish_reason reason);

struct generation_params {
  int64_t max_new_tokens = -1; ///< -1: to the end of the context.
  sampling_params sampling;    ///< `seed` is already drawn; eos_tokens are filled by the model.
  /// Beams return `n` of their sequences, the best by score first; contrastive search returns one.
  /// Neither goes with best_of, beams not with `stream`.
  search_params search;
  uint32_t n = 1; ///< Choices returned.
  /// Choices generated; the n with the highest summed log-probability are kept, the best first.
  /// Streams tell choice i as it was drawn, so they need best_of == n.
  uint32_t best_of = 1;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_tokens;
  bool ignore_eos = false;
  bool include_stop = false; ///< Keep the matched stop string in the text.
  bool skip_special_tokens = true;
  uint16_t top_n = 0; ///< Alternatives listed per token.
  bool prompt_logprobs = false;
  uint16_t prompt_top_n = 0;
  uint32_t truncate = 0;    ///< Keep only the last so many prompt tokens; 0 = off.
  bool token_bytes = false; ///< Fill token_event::bytes (OpenAI's logprobs want them).
  /// true: tokens are told as they come; token_event::text is what a stream may show now (stop
  /// strings held back and cut). false: one batch at the end; each token with its own uncut text.
  bool stream = false;
  uint32_t max_length = 0;  ///< Tokens of prompt and answer together; 0 = no limit of this kind.
  uint32_t max_time_ms = 0; ///< Ends with what is there by then (finish `length`); 0 = off.
  std::vector<int32_t> eos_tokens; ///< In place of the model's; empty = the model's.
};

/// What the version that a request names, or does not, binds it to.
enum class version_binding : uint8_t {
  named,     ///< That version; any where it is empty: several take turns.
  preferred, ///< That one (empty: the one without), or another where it cannot serve.
  exact,     ///< That one alone (empty: the one without).
};

/// One request, from whatever dialect. Times are relative to its arrival; 0 = no limit.
struct generation_request {
  std::string id;    ///< Correlates logs; given by the client or drawn by the front end.
  std::string model; ///< Registered name; empty = the only start-up model.
  std::string version{};
  version_binding binding = version_binding::named;
  prompt input;
  generation_params params;
  int32_t priority = 3;               ///< Lower runs first.
  uint64_t turn = 0;                  ///< The same among equal priorities; equal turns by arrival.
  std::string traceparent;            ///< W3C trace context that it belongs to; empty = none.
  uint32_t slot_timeout_ms = 0;       ///< ec::slot_timeout when no batch slot is free by then.
  uint32_t deadline_ms = 0;           ///< ec::request_timeout when not finished by then.
  uint32_t read_timeout_ms = 120'000; ///< ec::slow_reader after so long without credit.
};

/// A token with its text, as details, prefill and top_tokens list it.
struct token_text {
  int32_t id = -1;
  std::string text;
  std::string bytes; ///< The token's raw bytes, when generation_params::token_bytes.
  float logprob = 0;
  bool has_logprob = true; ///< false for the first prompt token.
  bool special = false;
};

/// One generated token. Exactly one per token, in order; text may be empty while held back.
struct token_event {
  uint32_t choice = 0;
  token_text token;
  std::vector<token_text> top; ///< top_n, descending; includes the drawn token.
};

/// The prompt as the model saw it; sent once, before the first token.
struct prompt_event {
  uint32_t token_count = 0;
  uint32_t cached_tokens = 0;               ///< Taken from the prefix cache.
  std::vector<token_text> tokens;           ///< Only with prompt_logprobs.
  std::vector<std::vector<token_text>> top; ///< Only with prompt_top_n.
};

/// A choice ended. It comes in the same batch as the choice's last token, so a stream can put both
/// on one line without waiting; only an end that no token brought about comes alone.
struct choice_event {
  uint32_t choice = 0;
  finish_reason reason = finish_reason::none;
  /// Text released at the end for which no token is left to carry it: empty unless the end came
  /// alone. What a last token settles (held-back text, flushed bytes) is in that token's text.
  std::string tail;
  std::string generated_text; ///< Whole, cut at the stop string.
  uint32_t generated_tokens = 0;
  double cumulative_logprob = 0;
};

/// What happened to a request since the last batch, in the order of the members. `weight` is what
/// it costs the receiver's credit; the receiver grants it back once the bytes have left (design:
/// credit in bytes). After `complete` or a `failure` nothing follows.
struct event_batch {
  std::vector<prompt_event> prompt; ///< Empty or one.
  std::vector<token_event> tokens;
  std::vector<choice_event> ends;
  bool complete = false;
  caf::error failure;
  uint32_t weight = 0;
};

/// Bytes that a request actor may have on their way to its sink before it parks its sequences. Only
/// streams are parked: an answer that is collected is bounded by its length.
inline constexpr uint32_t initial_credit = 256 * 1024;

/// Asks for token ids without generating.
struct tokenize_request {
  std::string model;
  prompt input;
  std::string version{};
};

struct tokenize_answer {
  std::vector<int32_t> tokens;
  uint32_t max_model_len = 0;
};

struct detokenize_request {
  std::string model;
  std::vector<int32_t> tokens;
  std::string version{};
};

/// How a model is registered with the engine.
struct model_spec {
  std::string name;
  models::load_options load;
  uint32_t queue_limit =
      1000; ///< Requests waiting for a slot; more are refused with ec::queue_full.
  uint32_t tokenizer_threads = 1;
  uint32_t retry_threshold = 0; ///< Shard deaths survived before the model counts as failed.
  uint32_t loading_timeout_ms = 240'000;
  bool trust_request_template = false;
  std::string chat_template; ///< File in place of the templates in the folder; empty: those.
  bool prefix_cache = true;  ///< Share KV blocks of prompts that begin alike.
  registration registered{};
  /// Calls (requests with the same id) that run together, nobody joining them; 0 = continuous
  /// batching: every sequence joins as soon as there is a slot.
  uint32_t call_batch = 0;
  uint32_t call_delay_ms = 0; ///< How long an incomplete batch of calls waits for more.
};

/// `degraded`: it serves, but fewer copies run than there are to be at least. `stopped`: scaled to
/// no workers; it holds no memory until it is scaled up again.
enum class model_state : uint8_t { loading, ready, degraded, reloading, failed, draining, stopped };
std::string_view to_string_view(model_state state);

struct model_status {
  std::string name;
  std::string folder;
  std::string architecture;
  model_state state = model_state::loading;
  std::string problem; ///< Why it failed; empty otherwise.
  uint32_t context = 0;
  uint32_t vocabulary = 0;
  uint32_t queued = 0;
  uint32_t running = 0;
  double load_progress = 0; ///< 0..1 while loading.
  int64_t since_unix = 0;   ///< When it became ready.
  bool has_chat_template = false;
  registration registered{};
  uint32_t queue_limit = 0;
  std::vector<worker_group> groups{};
};

/// Whether it was ready once and is given up, rather than could not be loaded.
inline bool has_used_up_retries(const model_status& model) {
  return model.state == model_state::failed && model.since_unix > 0;
}

} // namespace troupe
