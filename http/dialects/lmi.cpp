#include "troupe/http/dialects/lmi.hpp"

#include <algorithm>

#include "troupe/http/dialects/sampling.hpp"
#include "troupe/http/dialects/searching.hpp"

namespace troupe::http {

namespace {

constexpr int64_t default_new_tokens = 30;
constexpr int64_t most_top_tokens = 20;

/// Note 1 of the contract: do_sample decides; without it, whatever implies sampling does.
/// @returns Whether contrastive search is asked for.
bool decide_sampling(field_reader& from, const sampling_hints& hints,
                     const dialect_settings& settings, generation_params& to,
                     std::vector<std::string>& warnings) {
  auto wanted = from.boolean({"do_sample"});
  auto strategy = from.string({"decoding_strategy"}).value_or(settings.decoding_strategy);
  if (strategy == "sampling")
    strategy = "sample";
  if (strategy != "greedy" && strategy != "sample" && strategy != "contrastive" &&
      !strategy.empty())
    from.fail("decoding_strategy",
              "decoding_strategy must be greedy, sample or contrastive, got " + strategy);
  if (strategy == "contrastive" && !wanted.value_or(false))
    return true;
  auto implied = hints.filters || hints.temperature.value_or(0) > 0;
  auto sample = wanted.value_or(strategy == "sample" || implied);
  if (hints.temperature == 0.0)
    sample = false;
  if (sample)
    set_temperature(hints.temperature.value_or(1), to);
  else if (wanted == false && implied)
    warnings.push_back("do_sample is false, so temperature, top_p, top_k, typical_p and min_p "
                       "have no effect");
  return false;
}

/// n, best_of, and what searches. Beams return all of them unless n says otherwise.
void read_answers(field_reader& from, bool contrastive, const dialect_settings& settings,
                  generation_params& to) {
  const auto asked = read_search(from);
  if (contrastive)
    set_contrastive(asked, settings.contrastive_embeddings, to);
  if (asked.beams > 1)
    set_beams(asked, to);
  if (to.search.kind == search_kind::none)
    return read_choices(from, true, to);
  if (contrastive && asked.beams > 1 && from.string({"decoding_strategy"}))
    from.fail("num_beams",
              "num_beams above 1 and decoding_strategy contrastive exclude each other");
  read_found(from, {"n"}, to.search.kind == search_kind::beams ? asked.beams : 1, to);
}

/// A flag that may also be given as a count (decoder_input_details, prompt_logprobs).
bool read_prefill(field_reader& from, generation_params& to) {
  auto wanted = from.boolean({"decoder_input_details"}).value_or(false);
  auto top = from.integer({"prompt_logprobs"}, {.low = 0, .high = most_top_tokens});
  to.prompt_logprobs = wanted || top.has_value();
  return to.prompt_logprobs;
}

void read_prompt(field_reader& body, field_reader& parameters, prompt& to) {
  auto* inputs = body.raw({"inputs"});
  if (!inputs) {
    body.fail("inputs", "Invalid Request Property: 'inputs'");
  } else if (auto* text = inputs->as_string()) {
    if (text->empty())
      body.fail("inputs", "inputs must not be empty");
    to.text = *text;
  } else {
    body.fail("inputs", "inputs must be a string, not " + std::string{inputs->kind()});
  }
  to.cached_prefix = body.string({"cached_prompt"}).value_or("");
  if (parameters.boolean({"use_lru_kv_cache"}).value_or(false) && to.cached_prefix.empty())
    parameters.fail("use_lru_kv_cache", "use_lru_kv_cache needs cached_prompt");
}

/// Ours comes after what the body says: a broken body is the better news.
std::optional<problem> first_problem(const field_reader& body, const field_reader& parameters) {
  return body.failed() ? body.failed() : parameters.failed();
}

} // namespace

lmi_format::framing choose_framing(const std::string& request, const std::string& option,
                                   bool stream, bool tgi, std::vector<std::string>& warnings) {
  using framing = lmi_format::framing;
  for (const auto* name : {&request, &option}) {
    if (name->empty())
      continue;
    auto plain = name->ends_with("_chat") ? name->substr(0, name->size() - 5) : *name;
    if (plain == "json")
      return framing::json;
    if (plain == "jsonlines")
      return framing::jsonlines;
    if (plain == "sse")
      return framing::sse;
    warnings.push_back("output_formatter " + *name + " is unknown; the default is used");
    break;
  }
  if (!stream)
    return framing::json;
  return tgi ? framing::sse : framing::jsonlines;
}

parsed_job parse_lmi(const json::value& body, const job_context& context) {
  if (!body.as_object())
    return problem{"", "the body must be a JSON object, not " + std::string{body.kind()}};
  static const json::value none{json::object{}};
  field_reader fields{body};
  auto* given = fields.raw({"parameters"});
  if (given && !given->as_object())
    return problem{"parameters", "parameters must be an object, not " + std::string{given->kind()}};
  field_reader parameters{given ? *given : none};

  generation_job job;
  auto request = make_request(context);
  auto& params = request.params;
  auto stream = fields.boolean({"stream"}).value_or(false);
  parameters.raw({"stream"});
  lmi_format format;
  format.tgi = context.settings.tgi_compat;
  format.frame =
      choose_framing(parameters.string({"output_formatter"}).value_or(""),
                     context.settings.output_formatter, stream, format.tgi, job.warnings);
  params.stream = format.frame != lmi_format::framing::json;

  read_prompt(fields, parameters, request.input);
  if (auto* adapters = fields.raw({"adapters"}))
    if (!adapters->as_string() || !adapters->as_string()->empty())
      fields.fail("adapters", "adapters need option.enable_lora");
  params.max_new_tokens = parameters
                              .integer({"max_new_tokens", "max_tokens"},
                                       {.low = 0, .high = INT32_MAX, .low_excluded = true})
                              .value_or(default_new_tokens);
  auto hints = read_sampling(parameters, std::nullopt, params);
  const auto contrastive =
      decide_sampling(parameters, hints, context.settings, params, job.warnings);
  read_answers(parameters, contrastive, context.settings, params);
  if (params.stream && params.search.kind == search_kind::beams)
    parameters.fail("num_beams", "num_beams above 1 does not work with streaming");
  if (params.stream && params.best_of > 1)
    parameters.fail("n", "n and best_of above 1 do not work with streaming");
  format.prefill = read_prefill(parameters, params);
  if (params.stream && format.prefill)
    parameters.fail("decoder_input_details", "decoder_input_details does not work with streaming");
  params.top_n = static_cast<uint16_t>(
      parameters.integer({"top_n_tokens", "logprobs"}, {.low = 0, .high = most_top_tokens})
          .value_or(0));
  params.truncate = static_cast<uint32_t>(
      parameters.integer({"truncate"}, {.low = 0, .high = INT32_MAX, .low_excluded = true})
          .value_or(0));
  format.details = parameters.boolean({"details"}).value_or(format.tgi);
  format.full_text = parameters.boolean({"return_full_text"}).value_or(false);
  format.top_tokens = params.top_n > 0;
  format.choices = params.n;
  format.ranked = params.search.kind == search_kind::beams;
  if (auto why = first_problem(fields, parameters))
    return *why;

  for (const auto& name : parameters.unknown())
    job.warnings.push_back("parameter " + name + " is not known to text generation and is ignored");
  format.inputs = request.input.text;
  job.requests.push_back(std::move(request));
  job.writer = make_lmi_writer(std::move(format));
  return job;
}

} // namespace troupe::http
