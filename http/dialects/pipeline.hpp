#pragma once

#include "troupe/http/dialects/dialect.hpp"

/// Text generation without rolling batch, as a transformers pipeline behind an LMI handler speaks
/// it (contract tasks.md §2, §3, §12; generation.md §2.1): {"inputs": text or [texts],
/// "parameters": arguments of generate()}.
namespace troupe::http {

/// Reads a body that has no "messages". What neither the request nor the model's
/// generation_config.json says has the contract's defaults; a name that generate() does not know is
/// a problem that lists it.
parsed_job parse_pipeline(const json::value& body, const job_context& context);

/// What an answer looks like.
struct pipeline_format {
  bool full_text = true;  ///< The prompt in front of generated_text.
  uint32_t sequences = 1; ///< Of each prompt; more than one are an array.
  std::vector<std::string> inputs;
};

/// [{"generated_text": ...}, ...] when everything is there.
std::unique_ptr<answer_writer> make_pipeline_writer(pipeline_format format);

/// One line {"outputs": [piece of each prompt]} per token, until all prompts have ended.
/// @param echoes Prompts of the first line; empty: none.
std::unique_ptr<answer_writer> make_piece_writer(size_t prompts, std::vector<std::string> echoes);

} // namespace troupe::http
