#pragma once

#include "troupe/http/dialects/dialect.hpp"

/// What OpenAI's two generation routes share: names, finish words, log-probabilities, usage and the
/// frames of a stream.
namespace troupe::http {

enum class stream_frame : uint8_t { none, jsonlines, sse };

/// How an answer of the OpenAI kind is written.
struct openai_format {
  stream_frame frame = stream_frame::none;
  std::string id;
  int64_t created = 0;
  std::string model;
  std::string fingerprint;  ///< system_fingerprint; empty: not shown.
  uint32_t prompts = 1;     ///< Requests of the job (completions with a list of prompts).
  uint32_t choices = 1;     ///< Of each prompt.
  bool openai_words = true; ///< stop and length rather than LMI's finish words.
  bool final_chunk = true; ///< Reason in a chunk of its own and [DONE] at the end of an SSE stream.
  bool include_usage = false;
  bool logprobs = false;
  // Completions only:
  bool echo = false;
  bool drop_tokens = false;              ///< max_tokens was 0: only the echoed prompt is shown.
  std::vector<std::string> prompt_texts; ///< With echo; empty where the prompt was token ids.
};

/// Number of tokens, summed over prompts and choices.
struct token_usage {
  uint64_t prompt = 0;
  uint64_t completion = 0;
};

std::string_view finish_word(finish_reason reason, bool openai_words);

/// Fills in what both routes say of an answer as a whole: id, time, model (the one that the body
/// names, else the default) and the words of its finish reasons.
/// @param prefix Of the id, e.g. "chatcmpl-".
/// @param openai_words Unless the server was told otherwise.
void identify(openai_format& format, generation_request& request, const job_context& context,
              std::string_view named, std::string_view prefix, bool openai_words);

/// Everything of a whole answer before its choices, and what follows them.
/// @param object E.g. "chat.completion".
void open_answer(std::string& out, const openai_format& format, std::string_view object);
void close_answer(std::string& out, const token_usage& usage);
/// The members that end a choice, and its brace. @param reason `none` reads null.
void close_choice(std::string& out, finish_reason reason, bool openai_words);

/// The token's text for log-probabilities: from its bytes where the engine sent them, because in
/// streams `text` is what may be shown and not what the token says.
std::string token_string(const token_text& token);

/// Holds the parts of a chunk that never change, and writes frames.
class chunk_maker {
public:
  /// @param object E.g. "chat.completion.chunk".
  chunk_maker(const openai_format& format, std::string_view object);

  /// Opens a chunk with one choice of that index; the caller writes members after it.
  void open(std::string& out, uint32_t index) const;
  /// Closes it: reason (`none` = null), usage where every chunk has the member, frame.
  void close(std::string& out, finish_reason reason) const;
  /// The last words: usage chunk and [DONE], where wanted.
  void finish(std::string& out, const token_usage& usage) const;
  /// A ready JSON object as a record of its own.
  void record(std::string& out, std::string_view object) const;

private:
  std::string head_; ///< Frame, braces and all members up to "choices":[
  bool sse_;
  bool words_;
  bool usage_;
  bool done_;
};

} // namespace troupe::http
