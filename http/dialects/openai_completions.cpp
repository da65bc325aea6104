#include "troupe/http/dialects/openai_completions.hpp"

#include "troupe/http/dialects/sampling.hpp"

namespace troupe::http {

namespace {

constexpr int64_t default_new_tokens = 16;
constexpr int64_t most_logprobs = 20;

std::optional<prompt> to_prompt(const json::value& from) {
  prompt out;
  if (auto* text = from.as_string()) {
    out.text = *text;
    return out;
  }
  auto* elements = from.as_array();
  auto tokens = elements ? to_token_ids(*elements) : std::nullopt;
  if (!tokens || tokens->empty())
    return std::nullopt;
  out.kind = prompt_kind::tokens;
  out.tokens = std::move(*tokens);
  return out;
}

std::vector<prompt> read_prompts(field_reader& from) {
  std::vector<prompt> out;
  auto* given = from.raw({"prompt"});
  if (!given) {
    from.fail("prompt", "prompt is required: a string, an array of strings, an array of token ids "
                        "or an array of such arrays");
    return out;
  }
  auto* elements = given->as_array();
  auto several = elements && !elements->empty() && !elements->front().is_number();
  if (several && elements->size() > most_prompts) {
    from.fail("prompt", "prompt: at most " + std::to_string(most_prompts) + " prompts, got " +
                            std::to_string(elements->size()));
    return out;
  }
  auto add = [&](const json::value& element) {
    if (auto one = to_prompt(element))
      out.push_back(std::move(*one));
    else
      from.fail("prompt",
                "prompt must be a string, an array of strings, a non-empty array of token "
                "ids (integers from 0) or an array of such arrays");
  };
  if (several)
    for (const auto& element : *elements)
      add(element);
  else
    add(*given);
  for (const auto& one : out)
    if (one.kind == prompt_kind::text && one.text.empty())
      from.fail("prompt", "prompt must not be empty");
  return out;
}

void read_stream(field_reader& from, generation_params& params, openai_format& format) {
  params.stream = from.boolean({"stream"}).value_or(false);
  format.frame = params.stream ? stream_frame::sse : stream_frame::none;
  if (auto* options = from.raw({"stream_options"})) {
    field_reader inner{*options};
    format.include_usage = inner.boolean({"include_usage"}).value_or(false);
    if (!options->as_object() || inner.failed())
      from.fail("stream_options", "stream_options must be an object; include_usage is a boolean");
  }
  if (params.stream && params.best_of > params.n)
    from.fail("best_of", "best_of above n does not work with streaming");
}

/// With echo a prompt's own log-probabilities are wanted too, or its text where it came as ids.
void read_logprobs_and_echo(field_reader& from, generation_params& params, openai_format& format) {
  auto top = from.integer({"logprobs"}, {.low = 0, .high = most_logprobs});
  format.logprobs = top.has_value();
  params.top_n = static_cast<uint16_t>(top.value_or(0));
  params.token_bytes = format.logprobs;
  format.echo = from.boolean({"echo"}).value_or(false);
  if (format.echo && format.logprobs) {
    params.prompt_logprobs = true;
    params.prompt_top_n = params.top_n;
  }
}

void read_limit(field_reader& from, generation_params& params, openai_format& format) {
  auto limit =
      from.integer({"max_tokens"}, {.low = 0, .high = INT32_MAX}).value_or(default_new_tokens);
  if (limit == 0 && !format.echo)
    from.fail("max_tokens", "max_tokens must be greater than 0 unless echo is true");
  // Scoring a prompt needs one pass; its token is not shown.
  format.drop_tokens = limit == 0;
  params.max_new_tokens = std::max<int64_t>(limit, 1);
}

} // namespace

parsed_job parse_completions(const json::value& body, const job_context& context) {
  if (!body.as_object())
    return problem{"", "the body must be a JSON object, not " + std::string{body.kind()}};
  field_reader from{body};
  generation_job job;
  openai_format format;
  auto request = make_request(context);
  auto& params = request.params;
  auto prompts = read_prompts(from);
  auto hints = read_sampling(from, 2.0, params);
  set_temperature(hints.temperature.value_or(1.0), params);
  read_choices(from, false, params);
  read_stream(from, params, format);
  read_logprobs_and_echo(from, params, format);
  read_limit(from, params, format);
  if (auto suffix = from.string({"suffix"}); suffix && !suffix->empty())
    from.fail("suffix", "suffix is not supported: the models served here only continue a prompt");
  auto special = from.boolean({"add_special_tokens"}).value_or(true);
  if (auto last = from.integer({"truncate_prompt_tokens"}, {.low = 1, .high = INT32_MAX}))
    params.truncate = static_cast<uint32_t>(*last);
  auto named = from.string({"model"}).value_or("");
  if (from.failed())
    return *from.failed();

  identify(format, request, context, named, "cmpl-", true);
  format.prompts = static_cast<uint32_t>(prompts.size());
  format.choices = params.n;
  job.errors = error_style::openai;
  for (auto& one : prompts) {
    auto& added = job.requests.emplace_back(request);
    one.add_special_tokens = special;
    if (prompts.size() > 1)
      added.id += "-" + std::to_string(job.requests.size());
    if (format.echo && one.kind == prompt_kind::tokens)
      added.params.prompt_logprobs = true;
    if (format.echo)
      format.prompt_texts.push_back(one.text);
    added.input = std::move(one);
  }
  job.writer = make_completions_writer(std::move(format));
  return job;
}

} // namespace troupe::http
