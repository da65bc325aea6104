#include "troupe/actors/scheduling/prefill_share.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace troupe::scheduling {

namespace {

/// Follows a level that drifts, one noisy sample at a time.
void follow(double& level, double sample, double weight) {
  level = level == 0 ? sample : level + weight * (sample - level);
}

constexpr double whole_budget = UINT32_MAX;

/// Chunks of c tokens take (n/c + shards - 1) * (c + overhead) on equal shards; the c where that is
/// least. From the whole burst, so that its last chunks are no smaller than its first.
double best_chunk(const prefill_limits& limits, const prefill_share::demand& d) {
  return std::sqrt(limits.step_overhead_tokens * static_cast<double>(d.burst_tokens) /
                   (d.depth - 1));
}

} // namespace

double prefill_share::decode_time(uint32_t rows) const {
  const auto width = static_cast<size_t>(std::bit_width(rows));
  // The next smaller known size predicts too little time and so protects the streams too much,
  // which is the safe side; a larger one is better than nothing.
  for (auto i = width + 1; i-- > 0;)
    if (decode_ns_[i] > 0)
      return decode_ns_[i];
  for (auto i = width + 1; i < decode_ns_.size(); ++i)
    if (decode_ns_[i] > 0)
      return decode_ns_[i];
  return 0;
}

void prefill_share::learn(uint32_t decode_rows, uint32_t prompt_tokens, uint64_t ns) {
  const auto time = static_cast<double>(ns);
  if (prompt_tokens == 0) {
    if (decode_rows > 0)
      follow(decode_ns_[static_cast<size_t>(std::bit_width(decode_rows))], time, 0.2);
    return;
  }
  auto alone = decode_rows > 0 ? decode_time(decode_rows) : 0;
  if (decode_rows > 0 && alone == 0)
    return; // nothing to subtract yet
  auto price = std::max(time - alone, 0.0) / prompt_tokens;
  // A large chunk tells the price of a token well, a small one mostly the noise of the decode rows.
  auto weight = std::clamp(prompt_tokens / 128.0, 0.05, 0.5);
  follow(token_ns_, std::max(price, 1.0), weight);
}

uint32_t prefill_share::tokens(const demand& d) const {
  double most = whole_budget;
  if (d.depth > 1 && d.streams == 0)
    most = std::max<double>(limits_.pipeline_chunk, best_chunk(limits_, d));
  if (d.streams == 0 || d.prompts == 0)
    return static_cast<uint32_t>(most);

  const auto per_stream = static_cast<double>(d.prompts) / d.streams;
  const auto average = static_cast<double>(d.prompt_tokens) / d.prompts;
  if (per_stream >= limits_.burst_share && average <= limits_.burst_prompt)
    return static_cast<uint32_t>(most);

  // A step without decode rows still stands in the way of those in the other steps.
  const auto alone = decode_time(std::max({d.decode_rows, d.streams / std::max(d.depth, 1u), 1u}));
  if (alone == 0 || token_ns_ == 0)
    return std::max(limits_.first_chunk, limits_.min_chunk);
  auto extra = (limits_.stretch - 1) * alone * std::max(1.0, per_stream);
  extra = std::max(extra, static_cast<double>(limits_.unnoticed_ns) - alone);
  most = std::min(most, std::max<double>(limits_.min_chunk, extra / token_ns_));
  return static_cast<uint32_t>(std::min(most, whole_budget));
}

} // namespace troupe::scheduling
