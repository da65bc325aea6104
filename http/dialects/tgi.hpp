#pragma once

#include "troupe/http/dialects/dialect.hpp"

/// Text generation as the routes of Text Generation Inference (TGI) speak it: {"inputs",
/// "parameters"} with TGI's names, defaults and answers. Not to be confused with option.tgi_compat,
/// which changes how LMI's routes answer.
namespace troupe::http {

/// POST /generate: one object.
parsed_job parse_tgi_generate(const json::value& body, const job_context& context);
/// POST /generate_stream: events.
parsed_job parse_tgi_stream(const json::value& body, const job_context& context);
/// POST /: an array of one object, or events where the body's "stream" says so.
parsed_job parse_tgi_compat(const json::value& body, const job_context& context);

/// How an answer of the TGI kind is written.
struct tgi_format {
  enum class form : uint8_t { object, array, events };
  form shape = form::object;
  bool details = false;
  bool prefill = false; ///< decoder_input_details
  bool top_tokens = false;
  uint32_t choices = 1;
  std::string prefix;           ///< In front of generated_text: the prompt, for return_full_text.
  std::optional<uint64_t> seed; ///< Only of a request that samples.
};

std::unique_ptr<answer_writer> make_tgi_writer(tgi_format format);

} // namespace troupe::http
