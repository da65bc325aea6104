#pragma once

#include "troupe/http/dialects/dialect.hpp"

/// Text generation as LMI speaks it: {"inputs", "parameters", "stream", ...} (contract http.md
/// §4.4, §4.5; generation.md §2).
namespace troupe::http {

/// Reads a body that has no "messages". Parameters that nobody knows become warnings.
parsed_job parse_lmi(const json::value& body, const job_context& context);

/// How an answer of the LMI kind is written.
struct lmi_format {
  enum class framing : uint8_t { json, jsonlines, sse };
  framing frame = framing::json;
  bool tgi = false; ///< TGI's names, and the array of one around a whole answer.
  bool details = false;
  bool prefill = false; ///< decoder_input_details
  bool top_tokens = false;
  bool full_text = false; ///< The prompt in front of generated_text.
  uint32_t choices = 1;
  bool ranked = false; ///< They come in their order: beams.
  std::string inputs;
};

/// The framing that `request` or `option` names (request first), else by `stream` and `tgi`.
/// Unknown names add a warning. Chat names map to their plain framing.
lmi_format::framing choose_framing(const std::string& request, const std::string& option,
                                   bool stream, bool tgi, std::vector<std::string>& warnings);

std::unique_ptr<answer_writer> make_lmi_writer(lmi_format format);

} // namespace troupe::http
