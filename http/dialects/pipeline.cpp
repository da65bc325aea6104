#include "troupe/http/dialects/pipeline.hpp"

#include <algorithm>
#include <limits>

#include "troupe/http/dialects/sampling.hpp"
#include "troupe/http/dialects/searching.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

constexpr int64_t default_new_tokens = 30;
constexpr int64_t default_streamed_tokens = 50;
constexpr int64_t most_sequences = 64;
constexpr int64_t any_count = std::numeric_limits<int32_t>::max();

/// Arguments of generate() that change nothing here, whatever they say.
constexpr std::string_view without_effect[] = {
    "use_cache",
    "low_memory",
    "cache_implementation",
    "remove_invalid_values",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
    "return_dict_in_generate",
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "clean_up_tokenization_spaces",
    "synced_gpus",
    "handle_long_generation",
    "return_text",
    "details",
    "stream",
    "output_formatter",
    "decoder_input_details",
};

/// The arguments of a call: the request's, and behind them the model's own defaults.
class call_arguments {
public:
  call_arguments(const json::value* given, const std::string& defaults) {
    if (given)
      own_ = *given;
    json::object all;
    if (auto* members = own_.as_object())
      all = *members;
    auto parsed = json::parse(defaults);
    if (auto* members = parsed ? parsed->as_object() : nullptr)
      for (const auto& [name, content] : *members)
        if (auto* own = own_.find(name); !own || own->is_null())
          all.emplace_back(name, content);
    all_ = json::value{std::move(all)};
  }

  const json::value& all() const { return all_; }
  bool says(std::string_view name) const {
    auto* own = own_.find(name);
    return own && !own->is_null();
  }
  /// A number that the request itself gives.
  std::optional<double> number(std::string_view name) const {
    auto* own = own_.find(name);
    return own ? to_number(*own) : std::nullopt;
  }

private:
  json::value own_{json::object{}};
  json::value all_;
};

/// do_sample decides; without it, whatever the request says that implies sampling. The model's
/// defaults imply nothing.
bool wants_sampling(field_reader& from, const call_arguments& given) {
  auto strategy = from.string({"decoding_strategy"}).value_or("");
  if (strategy != "" && strategy != "greedy" && strategy != "sample" && strategy != "sampling" &&
      strategy != "contrastive")
    from.fail("decoding_strategy",
              "decoding_strategy must be greedy, sample or contrastive, got " + strategy);
  if (auto wanted = from.boolean({"do_sample"}))
    return *wanted;
  if (strategy == "contrastive" || given.number("penalty_alpha").value_or(0) > 0)
    return false;
  return strategy.starts_with("sampl") || given.number("temperature").value_or(0) > 0 ||
         given.number("top_p").value_or(1) < 1 || given.number("top_k").value_or(0) > 1 ||
         given.says("typical_p") || given.says("min_p");
}

/// Greedy, sampling, contrastive or beams, in the order that generate() decides.
void choose_mode(field_reader& from, const call_arguments& given, const sampling_hints& hints,
                 const dialect_settings& settings, generation_params& to) {
  const auto asked = read_search(from);
  const bool sample = wants_sampling(from, given) && hints.temperature != 0.0;
  const auto strategy = from.string({"decoding_strategy"}).value_or(settings.decoding_strategy);
  if (sample)
    set_temperature(hints.temperature.value_or(1), to);
  if (asked.beams > 1)
    set_beams(asked, to);
  else if (!sample && (strategy == "contrastive" ||
                       (asked.alpha.value_or(0) > 0 && asked.top_k.value_or(0) > 1)))
    set_contrastive(asked, settings.contrastive_embeddings, to);
  read_groups(from, to);

  const bool beams = to.search.kind == search_kind::beams;
  const auto count =
      from.integer({"num_return_sequences", "n"}, {.low = 1, .high = most_sequences}).value_or(1);
  if (beams && count > asked.beams)
    from.fail("num_return_sequences", "num_return_sequences must be at most num_beams (" +
                                          std::to_string(asked.beams) + "), got " +
                                          std::to_string(count));
  if (!beams && !sample && count > 1)
    from.fail("num_return_sequences",
              "num_return_sequences above 1 needs do_sample or num_beams: greedy and contrastive "
              "search find one sequence");
  to.n = to.best_of = static_cast<uint32_t>(count);
}

void read_lengths(field_reader& from, const call_arguments& given, bool streamed,
                  generation_params& to) {
  range<int64_t> positive{.low = 0, .high = any_count, .low_excluded = true};
  auto tokens = from.integer({"max_new_tokens", "max_tokens"}, positive);
  auto length = from.integer({"max_length"}, positive);
  // A length of the request goes before a number of tokens that only the model suggests.
  if (length && given.says("max_length") && !given.says("max_new_tokens") &&
      !given.says("max_tokens"))
    tokens.reset();
  if (!tokens && length)
    to.max_length = static_cast<uint32_t>(*length);
  to.max_new_tokens = tokens     ? *tokens
                      : length   ? -1
                      : streamed ? default_streamed_tokens
                                 : default_new_tokens;
  if (auto seconds = from.number({"max_time"}, {.low = 0, .high = 86400, .low_excluded = true}))
    to.max_time_ms = static_cast<uint32_t>(std::max(1.0, *seconds * 1000));
  to.truncate = static_cast<uint32_t>(from.integer({"truncate"}, positive).value_or(0));
}

void read_rest(field_reader& from, generation_params& to) {
  if (auto tokens = from.token_ids({"eos_token_id"}))
    to.eos_tokens = std::move(*tokens);
  to.sampling.renormalize = from.boolean({"renormalize_logits"}).value_or(false);
  for (auto name : without_effect)
    from.raw({name});
}

/// What other servers know and this one does not, which is no error.
void warn_of_ignored(field_reader& from, const call_arguments& given,
                     std::vector<std::string>& warnings) {
  for (std::string_view name : {"watermark", "grammar", "response_format", "guidance_scale"}) {
    from.raw({name});
    if (given.says(name))
      warnings.push_back("parameter " + std::string{name} + " is not supported and is ignored");
  }
}

/// One prompt or a list of them; nullopt: neither, or an empty one.
std::optional<std::vector<std::string>> prompts_of(const json::value& inputs) {
  if (auto* one = inputs.as_string())
    return one->empty() ? std::nullopt : std::optional{std::vector<std::string>{*one}};
  auto* list = inputs.as_array();
  if (!list || list->empty())
    return std::nullopt;
  std::vector<std::string> out;
  for (const auto& element : *list) {
    auto* text = element.as_string();
    if (!text || text->empty())
      return std::nullopt;
    out.push_back(*text);
  }
  return out;
}

/// The names that generate() would refuse, in the words that it has for them.
std::optional<problem> refuse_unknown(const field_reader& from, const call_arguments& given) {
  std::string list;
  for (const auto& name : from.unknown())
    if (given.says(name))
      list += (list.empty() ? "'" : ", '") + name + "'";
  if (list.empty())
    return std::nullopt;
  return problem{"parameters",
                 "The following `model_kwargs` are not used by the model: [" + list +
                     "] (note: typos in the generate arguments will also show up in this list)"};
}

std::unique_ptr<answer_writer> writer_for(const dialect_settings& settings,
                                          pipeline_format format) {
  using streaming = dialect_settings::streaming;
  if (settings.legacy_streaming == streaming::off)
    return make_pipeline_writer(std::move(format));
  const auto prompts = format.inputs.size();
  return make_piece_writer(prompts, settings.legacy_streaming == streaming::with_prompt
                                        ? std::move(format.inputs)
                                        : std::vector<std::string>{});
}

} // namespace

parsed_job parse_pipeline(const json::value& body, const job_context& context) {
  const auto& settings = context.settings;
  const bool streamed = settings.legacy_streaming != dialect_settings::streaming::off;
  auto* inputs = body.find("inputs");
  auto prompts = prompts_of(inputs ? *inputs : body);
  if (!prompts)
    return problem{"inputs", "inputs must be a text or a list of texts, none of them empty"};
  if (settings.legacy_streaming == dialect_settings::streaming::pieces && inputs &&
      inputs->as_string())
    return problem{"inputs", "inputs must be a list of texts when option.enable_streaming is true"};
  auto* parameters = body.as_object() ? body.find("parameters") : nullptr;
  if (parameters && parameters->is_null())
    parameters = nullptr;
  if (parameters && !parameters->as_object())
    return problem{"parameters",
                   "parameters must be an object, not " + std::string{parameters->kind()}};

  const call_arguments given{parameters, settings.generation_config};
  field_reader from{given.all()};
  auto pattern = make_request(context);
  auto& params = pattern.params;
  auto hints = read_sampling(from, std::nullopt, params);
  choose_mode(from, given, hints, settings, params);
  read_lengths(from, given, streamed, params);
  read_rest(from, params);
  generation_job job;
  warn_of_ignored(from, given, job.warnings);
  pipeline_format format;
  format.csv = context.accepts_csv;
  format.full_text = from.boolean({"return_full_text"}).value_or(true);
  if (streamed && params.n > 1)
    from.fail("num_return_sequences", "several sequences of one prompt cannot be streamed");
  if (streamed && params.search.kind == search_kind::beams)
    from.fail("num_beams", "num_beams above 1 does not work with option.enable_streaming");
  if (from.failed())
    return *from.failed();
  if (auto why = refuse_unknown(from, given))
    return *why;

  params.stream = streamed;
  format.sequences = params.n;
  format.inputs = *prompts;
  for (uint32_t i = 0; i < prompts->size(); ++i) {
    auto& request = job.requests.emplace_back(pattern);
    request.input.text = std::move((*prompts)[i]);
    // Equal prompts of one call must not draw the same.
    request.params.sampling.seed = params.sampling.seed + (uint64_t{i} << 32);
  }
  job.writer = writer_for(settings, std::move(format));
  return job;
}

} // namespace troupe::http
