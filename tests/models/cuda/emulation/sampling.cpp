#include <algorithm>
#include <cmath>
#include <vector>

#include "stream.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"
#include "troupe/models/sampling/sampler.hpp"

/// sampling.hpp of the kernels by way of models/sampling.
namespace troupe::models::cuda {

using test::emulation::enqueue;

namespace {

draw_fault fault_of(const std::string& text) {
  if (text.find("+Inf") != std::string::npos)
    return draw_fault::infinite;
  if (text.find("NaN") != std::string::npos)
    return draw_fault::nan;
  if (text.find("masked") != std::string::npos)
    return draw_fault::all_masked;
  return draw_fault::no_finite;
}

void penalize(const slot_sampling& s, const uint32_t* counts, std::vector<float>& scores) {
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto in_output = counts[i] & ~in_prompt_bit;
    const bool in_prompt = (counts[i] & in_prompt_bit) != 0;
    if (counts[i] == 0)
      continue;
    if (in_prompt && s.prompt_penalty != 1)
      scores[i] = scores[i] < 0 ? scores[i] * s.prompt_penalty : scores[i] / s.prompt_penalty;
    if (s.repetition_penalty != 1)
      scores[i] =
          scores[i] < 0 ? scores[i] * s.repetition_penalty : scores[i] / s.repetition_penalty;
    if (in_output > 0)
      scores[i] -= s.frequency_penalty * static_cast<float>(in_output) + s.presence_penalty;
  }
}

void sample_one(const step_arrays& step, const sample_call& call, uint32_t i) {
  const auto& request = call.requests[i];
  auto& result = call.results[i];
  result = {};
  if (request.row == no_row)
    return;
  const auto* begin = static_cast<const float*>(call.logits.data) + i * call.logits.stride;
  const std::vector<float> logits(begin, begin + call.logits.columns);
  row_result raw;
  if (request.target >= 0) {
    add_prompt_logprob(logits, request.target, static_cast<uint16_t>(request.top_n), raw);
    result.token = request.target;
    result.logprob = raw.prompt.empty() ? 0 : raw.prompt[0].value;
    if (!raw.prompt_top.empty())
      raw.top = raw.prompt_top[0];
  } else {
    const auto slot = step.slots[request.row];
    const auto& s = call.slots[slot];
    const auto position =
        step.positions[step.first_tokens[request.row] + step.token_counts[request.row] - 1] + 1;
    auto scores = logits;
    if (s.counts_row != UINT32_MAX)
      penalize(s, call.counts + size_t{s.counts_row} * logits.size(), scores);
    if (position < s.eos_from)
      for (uint32_t e = 0; e < s.eos_count; ++e)
        scores[static_cast<size_t>(s.eos[e])] = -INFINITY;
    sequence_start start;
    auto& p = start.sampling;
    p.sample = s.sample != 0;
    p.seed = s.seed;
    p.sequence_index = s.sequence_index;
    p.temperature = s.temperature;
    p.top_k = s.top_k;
    p.top_p = s.top_p_cut > 0 ? 1 - s.top_p_cut : 1;
    p.min_p = s.min_p;
    const row_wants wants{.sample = true};
    const auto drawn = sample_row(scores, sequence_sampler{start}, wants, position);
    raw.fault = drawn.fault;
    raw.fault_text = drawn.fault_text;
    if (drawn.token >= 0) {
      add_prompt_logprob(logits, drawn.token, static_cast<uint16_t>(request.top_n), raw);
      result.token = drawn.token;
      result.logprob = raw.prompt[0].value;
      raw.top = raw.prompt_top[0];
      call.latest[slot] = drawn.token;
      if (s.counts_row != UINT32_MAX)
        ++call.counts[size_t{s.counts_row} * logits.size() + static_cast<size_t>(drawn.token)];
    }
  }
  if (raw.fault != ec::none)
    result.fault = fault_of(raw.fault_text);
  result.top_count = std::min<uint32_t>(request.top_n, static_cast<uint32_t>(raw.top.size()));
  for (uint32_t t = 0; t < result.top_count; ++t)
    call.top[i * max_top + t] = {raw.top[t].token, raw.top[t].value};
}

} // namespace

size_t sample_workspace_bytes(uint32_t positions, uint32_t) {
  return positions * sizeof(uint32_t);
}

cudaError_t sample(const launcher& on, const step_arrays& step, const sample_call& call) {
  enqueue(on.stream, [=] {
    for (uint32_t i = 0; i < call.logits.rows; ++i)
      sample_one(step, call, i);
  });
  return cudaSuccess;
}

cudaError_t count_history(const launcher& on, const int32_t* history, uint32_t length,
                          uint32_t prompt_length, uint32_t* row, uint32_t vocabulary) {
  enqueue(on.stream, [=] {
    std::fill_n(row, vocabulary, 0u);
    for (uint32_t i = 0; i < length; ++i) {
      if (i < prompt_length)
        row[history[i]] |= in_prompt_bit;
      else
        ++row[history[i]];
    }
  });
  return cudaSuccess;
}

} // namespace troupe::models::cuda
