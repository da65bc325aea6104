#include "troupe/http/dialects/sampling.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>

#include "troupe/http/dialects/dialect.hpp"

namespace troupe::http {

namespace {

constexpr int64_t any_int = std::numeric_limits<int32_t>::max();

/// {"token id": bias, ...}
void read_logit_bias(field_reader& from, sampling_params& to) {
  auto* given = from.raw({"logit_bias"});
  if (!given)
    return;
  auto* members = given->as_object();
  if (!members)
    return from.fail("logit_bias", "logit_bias must be an object of token ids and numbers");
  for (const auto& [name, content] : *members) {
    int32_t token = -1;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token);
    if (error != std::errc{} || end != name.data() + name.size() || token < 0)
      return from.fail("logit_bias", "logit_bias: \"" + name + "\" is not a token id");
    auto bias = to_number(content);
    if (!bias || *bias < -100 || *bias > 100)
      return from.fail("logit_bias",
                       "logit_bias: the bias of token " + name + " must be between -100 and 100");
    to.logit_bias.push_back({token, static_cast<float>(*bias)});
  }
}

void read_bad_words(field_reader& from, sampling_params& to) {
  auto* given = from.raw({"bad_words_ids"});
  if (!given)
    return;
  auto wrong = [&] {
    from.fail("bad_words_ids",
              "bad_words_ids must be an array of non-empty arrays of token ids (integers from 0)");
  };
  auto* words = given->as_array();
  if (!words)
    return wrong();
  for (const auto& word : *words) {
    auto* ids = word.as_array();
    auto tokens = ids ? to_token_ids(*ids) : std::nullopt;
    if (!tokens || tokens->empty())
      return wrong();
    to.bad_words.push_back(std::move(*tokens));
  }
}

void read_stops(field_reader& from, generation_params& to) {
  if (auto stops = from.strings({"stop_sequences", "stop", "stop_strings"})) {
    if (stops->size() > most_stops)
      from.fail("stop", "stop: at most " + std::to_string(most_stops) + " stop sequences, got " +
                            std::to_string(stops->size()));
    for (const auto& stop : *stops)
      if (stop.empty())
        from.fail("stop", "stop: a stop sequence must not be empty");
    // Beside those of the server, which make_request put in.
    to.stop.insert(to.stop.begin(), std::make_move_iterator(stops->begin()),
                   std::make_move_iterator(stops->end()));
  }
  if (auto tokens = from.token_ids({"stop_token_ids"}))
    to.stop_tokens = std::move(*tokens);
}

void read_penalties(field_reader& from, sampling_params& to) {
  auto set = [](float& to, std::optional<double> x) {
    if (x)
      to = static_cast<float>(*x);
  };
  range<double> positive{.low = 0, .high = {}, .low_excluded = true};
  set(to.repetition_penalty, from.number({"repetition_penalty"}, positive));
  set(to.encoder_repetition_penalty, from.number({"encoder_repetition_penalty"}, positive));
  set(to.frequency_penalty, from.number({"frequency_penalty"}, {.low = -2, .high = 2}));
  set(to.presence_penalty, from.number({"presence_penalty"}, {.low = -2, .high = 2}));
  if (auto size = from.integer({"no_repeat_ngram_size"}, {.low = 0, .high = any_int}))
    to.no_repeat_ngram_size = static_cast<uint32_t>(*size);
  if (auto count = from.integer({"min_new_tokens", "min_tokens"}, {.low = 0, .high = any_int}))
    to.min_new_tokens = static_cast<uint32_t>(*count);
  if (auto length = from.integer({"min_length"}, {.low = 0, .high = any_int}))
    to.min_length = static_cast<uint32_t>(*length);
  if (auto size = from.integer({"encoder_no_repeat_ngram_size"}, {.low = 0, .high = any_int}))
    to.encoder_no_repeat_ngram_size = static_cast<uint32_t>(*size);
}

/// [start, factor]
void read_decay(field_reader& from, sampling_params& to) {
  constexpr std::string_view name = "exponential_decay_length_penalty";
  auto* given = from.raw({name});
  if (!given)
    return;
  auto* pair = given->as_array();
  auto start = pair && pair->size() == 2 ? to_number((*pair)[0]) : std::nullopt;
  auto factor = start ? to_number((*pair)[1]) : std::nullopt;
  if (!factor || *start < 0 || *start > any_int || *factor <= 0)
    return from.fail(name, std::string{name} + " must be an array of two numbers: a count of "
                                               "tokens from 0 and a factor above 0");
  to.decay_start = static_cast<uint32_t>(*start);
  to.decay_factor = static_cast<float>(*factor);
}

/// What masks or forces tokens by their ids.
void read_token_rules(field_reader& from, sampling_params& to) {
  if (auto tokens = from.token_ids({"suppress_tokens"}))
    to.suppress_tokens = std::move(*tokens);
  if (auto tokens = from.token_ids({"begin_suppress_tokens"}))
    to.begin_suppress_tokens = std::move(*tokens);
  if (auto token = from.integer({"forced_bos_token_id"}, {.low = 0, .high = any_int}))
    to.forced_bos_token = static_cast<int32_t>(*token);
  if (auto tokens = from.token_ids({"forced_eos_token_id"}))
    to.forced_eos_tokens = std::move(*tokens);
  read_decay(from, to);
}

sampling_hints read_filters(field_reader& from, sampling_params& to) {
  sampling_hints out;
  range<double> fraction{.low = 0, .high = 1, .low_excluded = true};
  if (auto p = from.number({"top_p"}, fraction)) {
    to.top_p = static_cast<float>(*p);
    out.filters |= *p < 1;
  }
  if (auto k = from.integer({"top_k"}, {.low = -1, .high = any_int})) {
    to.top_k = *k < 0 ? 0 : static_cast<int32_t>(*k);
    out.filters |= *k > 1;
  }
  if (auto p = from.number({"min_p"}, {.low = 0, .high = 1})) {
    to.min_p = static_cast<float>(*p);
    out.filters = true;
  }
  if (auto p = from.number({"typical_p"}, fraction)) {
    to.typical_p = static_cast<float>(*p);
    out.filters = true;
  }
  if (auto x = from.number({"epsilon_cutoff"}, {.low = 0, .high = 1}))
    to.epsilon_cutoff = static_cast<float>(*x);
  if (auto x = from.number({"eta_cutoff"}, {.low = 0, .high = 1}))
    to.eta_cutoff = static_cast<float>(*x);
  return out;
}

} // namespace

sampling_hints read_sampling(field_reader& from, std::optional<double> highest_temperature,
                             generation_params& to) {
  auto out = read_filters(from, to.sampling);
  out.temperature = from.number({"temperature"}, {.low = 0, .high = highest_temperature});
  read_penalties(from, to.sampling);
  read_token_rules(from, to.sampling);
  read_logit_bias(from, to.sampling);
  read_bad_words(from, to.sampling);
  read_stops(from, to);
  auto seed = from.unsigned_integer({"seed", "manual_seed"});
  to.sampling.seed = seed ? *seed : fresh_seed();
  to.ignore_eos = from.boolean({"ignore_eos_token", "ignore_eos"}).value_or(false);
  to.include_stop = from.boolean({"include_stop_str_in_output"}).value_or(false);
  to.skip_special_tokens = from.boolean({"skip_special_tokens"}).value_or(true);
  from.boolean({"spaces_between_special_tokens"});
  return out;
}

void set_temperature(double temperature, generation_params& to) {
  to.sampling.sample = temperature > 0;
  // The smallest float that divides logits without turning them all into infinities.
  constexpr float coldest = 1e-6f;
  to.sampling.temperature =
      temperature > 0 ? std::max(coldest, static_cast<float>(temperature)) : 1.0f;
}

void read_choices(field_reader& from, bool needs_sampling, generation_params& to) {
  auto n = from.integer({"n"}, {.low = 1, .high = most_choices});
  auto best_of = from.integer({"best_of"}, {.low = 1, .high = most_choices});
  to.n = static_cast<uint32_t>(n.value_or(best_of.value_or(1)));
  to.best_of = static_cast<uint32_t>(best_of.value_or(to.n));
  if (to.best_of < to.n)
    from.fail("best_of", "best_of must be at least n (" + std::to_string(to.n) + "), got " +
                             std::to_string(to.best_of));
  if (needs_sampling && to.best_of > 1 && !to.sampling.sample)
    from.fail(n ? "n" : "best_of",
              "n and best_of above 1 need sampling: set do_sample to true or a temperature");
}

} // namespace troupe::http
