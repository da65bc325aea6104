#include <cmath>
#include <string>
#include <string_view>

#include "troupe/models/sampling/sampler.hpp"

namespace troupe::models {

namespace {

/// Collects the first complaint; later checks then do nothing.
class checker {
public:
  void require(bool holds, std::string_view name, std::string_view rule, double value) {
    if (holds || !text_.empty())
      return;
    text_ = std::string{name} + " must be " + std::string{rule} + ", not " + number(value);
  }

  void token(int32_t id, uint32_t vocabulary, std::string_view name) {
    if (id >= 0 && static_cast<uint32_t>(id) < vocabulary)
      return;
    require(false, name, "token ids from 0 to " + std::to_string(vocabulary - 1), id);
  }

  caf::error result() && {
    return text_.empty() ? caf::error{} : caf::make_error(ec::invalid_request, std::move(text_));
  }

private:
  static std::string number(double value) {
    auto text = std::to_string(value);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.'))
      text.pop_back();
    return text;
  }

  std::string text_;
};

} // namespace

caf::error check_sampling(const sampling_params& p, uint32_t vocabulary) {
  checker c;
  const auto within = [](float value, float low, float high) {
    return value >= low && value <= high;
  };
  const auto positive = [](float value) { return value > 0 && std::isfinite(value); };
  c.require(!p.sample || positive(p.temperature), "temperature", "above 0 when sampling",
            p.temperature);
  c.require(p.top_k >= -1, "top_k", "at least 0 (or -1 for off)", p.top_k);
  c.require(p.top_p > 0 && p.top_p <= 1, "top_p", "above 0 and at most 1", p.top_p);
  c.require(within(p.min_p, 0, 1), "min_p", "from 0 to 1", p.min_p);
  c.require(p.typical_p > 0 && p.typical_p <= 1, "typical_p", "above 0 and at most 1", p.typical_p);
  c.require(within(p.epsilon_cutoff, 0, 1), "epsilon_cutoff", "from 0 to 1", p.epsilon_cutoff);
  c.require(within(p.eta_cutoff, 0, 1), "eta_cutoff", "from 0 to 1", p.eta_cutoff);
  c.require(positive(p.repetition_penalty), "repetition_penalty", "above 0", p.repetition_penalty);
  c.require(positive(p.encoder_repetition_penalty), "encoder_repetition_penalty", "above 0",
            p.encoder_repetition_penalty);
  c.require(within(p.frequency_penalty, -2, 2), "frequency_penalty", "from -2 to 2",
            p.frequency_penalty);
  c.require(within(p.presence_penalty, -2, 2), "presence_penalty", "from -2 to 2",
            p.presence_penalty);
  for (const auto& [token, value] : p.logit_bias) {
    c.token(token, vocabulary, "logit_bias");
    c.require(within(value, -100, 100), "logit_bias", "from -100 to 100", value);
  }
  for (const auto& word : p.bad_words) {
    c.require(!word.empty(), "bad_words_ids", "lists of at least one token", 0);
    for (const auto token : word)
      c.token(token, vocabulary, "bad_words_ids");
  }
  for (const auto token : p.suppress_tokens)
    c.token(token, vocabulary, "suppress_tokens");
  for (const auto token : p.begin_suppress_tokens)
    c.token(token, vocabulary, "begin_suppress_tokens");
  for (const auto token : p.forced_eos_tokens)
    c.token(token, vocabulary, "forced_eos_token_id");
  if (p.forced_bos_token != -1)
    c.token(p.forced_bos_token, vocabulary, "forced_bos_token_id");
  c.require(positive(p.decay_factor), "exponential_decay_length_penalty", "above 0",
            p.decay_factor);
  return std::move(c).result();
}

} // namespace troupe::models
