#include "troupe/http/dialects/tgi.hpp"

#include "troupe/http/dialects/sampling.hpp"

namespace troupe::http {

namespace {

constexpr int64_t default_new_tokens = 100;
constexpr int64_t most_top_tokens = 20;

void read_inputs(field_reader& body, prompt& to) {
  auto* inputs = body.raw({"inputs"});
  if (!inputs)
    return body.fail("inputs", "`inputs` is required: the prompt, a string");
  auto* text = inputs->as_string();
  if (!text)
    return body.fail("inputs", "`inputs` must be a string, not " + std::string{inputs->kind()});
  if (text->empty())
    body.fail("inputs", "`inputs` cannot be empty");
  to.text = *text;
}

/// TGI samples when it is told to, and also when anything is given that only sampling heeds.
void decide_sampling(field_reader& from, const sampling_hints& hints, generation_params& to) {
  auto wanted = from.boolean({"do_sample"}).value_or(false);
  if (hints.temperature == 0.0 || (!wanted && !hints.temperature && !hints.filters))
    return set_temperature(0, to);
  set_temperature(hints.temperature.value_or(1), to);
}

void read_details(field_reader& from, tgi_format& format, generation_params& to) {
  format.prefill = from.boolean({"decoder_input_details"}).value_or(false);
  if (to.stream && format.prefill)
    from.fail("decoder_input_details",
              "`decoder_input_details` == true is not supported when streaming tokens");
  to.prompt_logprobs = format.prefill;
  format.details = from.boolean({"details"}).value_or(false) || format.prefill;
  to.top_n = static_cast<uint16_t>(
      from.integer({"top_n_tokens"}, {.low = 0, .high = most_top_tokens}).value_or(0));
  format.top_tokens = to.top_n > 0;
}

void read_limits(field_reader& from, generation_params& to) {
  range<int64_t> positive{.low = 0, .high = INT32_MAX, .low_excluded = true};
  to.max_new_tokens = from.integer({"max_new_tokens"}, positive).value_or(default_new_tokens);
  to.truncate = static_cast<uint32_t>(from.integer({"truncate"}, positive).value_or(0));
}

parsed_job parse(const json::value& body, const job_context& context,
                 std::optional<tgi_format::form> shape) {
  if (!body.as_object())
    return problem{"", "the body must be a JSON object, not " + std::string{body.kind()}};
  static const json::value none{json::object{}};
  field_reader fields{body};
  auto* given = fields.raw({"parameters"});
  if (given && !given->as_object())
    return problem{"parameters",
                   "`parameters` must be an object, not " + std::string{given->kind()}};
  field_reader parameters{given ? *given : none};

  generation_job job;
  tgi_format format;
  auto request = make_request(context);
  auto& params = request.params;
  auto stream = fields.boolean({"stream"}).value_or(false);
  format.shape = shape ? *shape : stream ? tgi_format::form::events : tgi_format::form::array;
  params.stream = format.shape == tgi_format::form::events;
  read_inputs(fields, request.input);
  read_limits(parameters, params);
  auto hints = read_sampling(parameters, std::nullopt, params);
  // TGI leaves the stop string at the end of the text.
  params.include_stop = parameters.boolean({"include_stop_str_in_output"}).value_or(true);
  decide_sampling(parameters, hints, params);
  read_choices(parameters, true, params);
  if (params.stream && params.best_of > 1)
    parameters.fail("best_of", "`best_of` != 1 is not supported when streaming tokens");
  read_details(parameters, format, params);
  auto full = parameters.boolean({"return_full_text"}).value_or(false);
  if (fields.failed())
    return *fields.failed();
  if (parameters.failed())
    return *parameters.failed();

  for (const auto& name : parameters.unknown())
    if (auto* value = given->find(name);
        value && !value->is_null() && !(value->as_bool() && !*value->as_bool()))
      job.warnings.push_back("parameter " + name + " is not supported and is ignored");
  if (full)
    format.prefix = request.input.text;
  if (params.sampling.sample)
    format.seed = params.sampling.seed;
  format.choices = params.n;
  job.errors = error_style::tgi;
  job.requests.push_back(std::move(request));
  job.writer = make_tgi_writer(std::move(format));
  return job;
}

} // namespace

parsed_job parse_tgi_generate(const json::value& body, const job_context& context) {
  return parse(body, context, tgi_format::form::object);
}

parsed_job parse_tgi_stream(const json::value& body, const job_context& context) {
  return parse(body, context, tgi_format::form::events);
}

parsed_job parse_tgi_compat(const json::value& body, const job_context& context) {
  return parse(body, context, std::nullopt);
}

} // namespace troupe::http
