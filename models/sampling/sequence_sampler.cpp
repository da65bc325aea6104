#include "troupe/models/sampling/sampler.hpp"

namespace troupe::models {

sequence_sampler::sequence_sampler(const sequence_start& start)
    : id_(start.sequence), prompt_length_(start.prompt_length), params_(start.sampling),
      history_(start.history) {
  const auto& p = params_;
  counting_ = p.encoder_repetition_penalty != 1.0f || p.repetition_penalty != 1.0f ||
              p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
  recount();
}

void sequence_sampler::push_token(int32_t token) {
  history_.push_back(token);
  if (counting_)
    count(token, history_.size() <= prompt_length_);
}

void sequence_sampler::feed(uint32_t position, std::span<const int32_t> tokens) {
  if (position > history_.size()) {
    gap_ = true;
    return;
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t place = position + i;
    if (place < history_.size() && history_[place] != tokens[i]) {
      history_.resize(place);
      recount();
    }
    if (place == history_.size())
      push_token(tokens[i]);
  }
}

void sequence_sampler::count(int32_t token, bool in_prompt) {
  const auto [place, fresh] = places_.try_emplace(token, occurrences_.size());
  if (fresh)
    occurrences_.push_back({token, 0, 0});
  auto& seen = occurrences_[place->second];
  ++(in_prompt ? seen.in_prompt : seen.in_output);
}

void sequence_sampler::recount() {
  occurrences_.clear();
  places_.clear();
  if (counting_)
    for (size_t i = 0; i < history_.size(); ++i)
      count(history_[i], i < prompt_length_);
}

} // namespace troupe::models
