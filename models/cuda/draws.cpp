#include "troupe/models/cuda/draws.hpp"

#include <algorithm>
#include <string>

#include "troupe/models/sampling/decimal.hpp"
#include "troupe/models/sampling/needs_host.hpp"

namespace troupe::models::cuda {

namespace {

static_assert(device_top_n == max_top && device_eos_tokens == max_slot_eos);

bool masks_ends(const sampling_params& p) {
  return (p.min_length > 0 || p.min_new_tokens > 0) && !p.eos_tokens.empty();
}

std::string_view text_of(draw_fault fault) {
  switch (fault) {
  case draw_fault::infinite:
    return "the logits hold +Inf";
  case draw_fault::no_finite:
    return "the logits hold no finite number";
  case draw_fault::nan:
    return "the logits hold NaN";
  case draw_fault::overflow:
    return "a score overflowed: temperature or a penalty is too small";
  case draw_fault::all_masked:
    return "every token is masked: relax the minimum length";
  case draw_fault::none:
    break;
  }
  return {};
}

void fill_top(const draw& d, const draw_result& result, const top_entry* entries,
              std::vector<token_value>& top) {
  if (entries == nullptr || d.wants.top_n == 0)
    return;
  bool present = false;
  for (uint32_t i = 0; i < result.top_count; ++i) {
    top.push_back({entries[i].token, entries[i].logprob});
    present |= entries[i].token == result.token;
  }
  if (!present)
    top.push_back({result.token, result.logprob});
}

} // namespace

bool counts_tokens(const sampling_params& p) {
  return p.repetition_penalty != 1.0f || p.encoder_repetition_penalty != 1.0f ||
         p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
}

slot_sampling sampling_of(const sequence_start& start, uint32_t slot) {
  const auto& p = start.sampling;
  slot_sampling s;
  s.seed = p.seed;
  s.sequence_index = p.sequence_index;
  s.sample = p.sample ? 1 : 0;
  s.temperature = p.temperature;
  s.top_k = p.top_k;
  s.top_p_cut = p.top_p < 1.0f ? static_cast<float>(1.0 - sampling::decimal(p.top_p)) : 0.0f;
  s.min_p = p.min_p;
  s.repetition_penalty = p.repetition_penalty;
  // transformers divides in double before it goes to fp32.
  s.prompt_penalty = static_cast<float>(1.0 / sampling::decimal(p.encoder_repetition_penalty));
  s.frequency_penalty = p.frequency_penalty;
  s.presence_penalty = p.presence_penalty;
  s.counts_row = counts_tokens(p) ? slot : UINT32_MAX;
  if (masks_ends(p)) {
    s.eos_from =
        std::max(p.min_length, p.min_new_tokens > 0 ? start.prompt_length + p.min_new_tokens : 0);
    s.eos_count = static_cast<uint32_t>(std::min<size_t>(p.eos_tokens.size(), max_slot_eos));
    std::copy_n(p.eos_tokens.begin(), s.eos_count, s.eos);
  }
  return s;
}

bool draws_on_host(const draw& d) {
  if (d.sampler == nullptr)
    return d.wants.top_n > max_top;
  auto wants = d.wants;
  wants.hidden_state = false; // That comes from elsewhere.
  return d.target >= 0 || needs_host(d.sampler->params(), wants);
}

void request_draws(std::span<const draw> draws, std::span<draw_request> picked,
                   std::vector<uint32_t>& on_host) {
  on_host.clear();
  std::fill(picked.begin(), picked.end(), draw_request{});
  for (uint32_t i = 0; i < draws.size(); ++i) {
    const auto& d = draws[i];
    auto& request = picked[d.row];
    if (request.row != no_row || draws_on_host(d)) {
      on_host.push_back(i);
      continue;
    }
    request = {
        .row = d.layout_row, .position = d.position, .target = d.target, .top_n = d.wants.top_n};
  }
}

bool all_plain_greedy(std::span<const draw> draws) {
  return std::all_of(draws.begin(), draws.end(), [](const draw& d) {
    return d.sampler != nullptr && d.target < 0 && d.wants.top_n == 0 &&
           !d.sampler->params().sample && !counts_tokens(d.sampler->params()) &&
           !masks_ends(d.sampler->params());
  });
}

void take_draw(const draw& d, const draw_result& result, const top_entry* top) {
  auto& into = *d.into;
  if (into.fault != ec::none)
    return;
  if (result.fault != draw_fault::none) {
    into.fault = ec::row_fault;
    into.fault_text =
        (d.target >= 0 ? "no log-probability for prompt token " + std::to_string(d.target)
                       : "no token can be chosen at position " + std::to_string(d.position)) +
        ": " + std::string{text_of(result.fault)};
    return;
  }
  if (d.target >= 0) {
    into.prompt.push_back({d.target, result.logprob});
    fill_top(d, result, top, into.prompt_top.emplace_back());
    return;
  }
  into.token = result.token;
  into.logprob = result.logprob;
  fill_top(d, result, top, into.top);
}

void draw_on_host(const draw& d, std::span<const float> logits) {
  auto& into = *d.into;
  if (into.fault != ec::none)
    return;
  if (d.target >= 0)
    add_prompt_logprob(logits, d.target, d.wants.top_n, into);
  if (d.sampler == nullptr || into.fault != ec::none)
    return;
  take_drawn(sample_row(logits, *d.sampler, d.wants, d.position), into);
}

} // namespace troupe::models::cuda
