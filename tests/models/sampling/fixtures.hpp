#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "troupe/models/sampling/sampler.hpp"

/// What several sampling tests start from.
namespace troupe::models::test {

/// Logits as a model gives them: a broad bell with a few peaks. Same seed, same row, anywhere.
inline std::vector<float> random_row(size_t count, uint32_t seed, float spread = 2.5f) {
  std::mt19937 generator{seed};
  std::vector<float> row(count);
  for (auto& value : row) {
    float sum = 0;
    for (int i = 0; i < 6; ++i)
      sum += static_cast<float>(generator() >> 8) * 0x1p-24f - 0.5f;
    value = sum * 1.4f * spread;
  }
  for (int peak = 0; peak < 5; ++peak)
    row[generator() % count] += 4.0f * spread * 0.4f;
  return row;
}

inline sequence_start start_of(sampling_params params, std::vector<int32_t> prompt = {1, 2, 3}) {
  sequence_start start;
  start.sequence = sequence_id{7};
  start.prompt_length = static_cast<uint32_t>(prompt.size());
  start.history = std::move(prompt);
  start.sampling = std::move(params);
  return start;
}

inline row_wants wants_token(uint16_t top_n = 0) {
  row_wants wants;
  wants.sample = true;
  wants.top_n = top_n;
  return wants;
}

/// Draws the token at `position` with nothing but these parameters.
inline row_result draw(const std::vector<float>& row, const sampling_params& params,
                       uint32_t position = 3) {
  return sample_row(row, sequence_sampler{start_of(params)}, wants_token(), position);
}

} // namespace troupe::models::test
