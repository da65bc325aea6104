#include "troupe/models/cuda/workspace.hpp"

#include <algorithm>
#include <string>

#include "troupe/models/cuda/buckets.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"
#include "troupe/models/cuda/passing.hpp"
#include "troupe/models/cuda/slot_state.hpp"
#include "troupe/models/cuda/weights.hpp"

namespace troupe::models::cuda {

namespace {

/// Logits are fp32 of the whole vocabulary: half a MiB a row.
constexpr uint32_t most_logits_rows = 512;

size_t columns_of(const device_stage_shape& s, scratch which) {
  switch (which) {
  case scratch::hidden:
  case scratch::normed:
  case scratch::selected:
    return s.hidden;
  case scratch::qkv:
    return s.qkv_width;
  case scratch::attended:
    return s.q_width;
  case scratch::mlp:
    return s.intermediate;
  case scratch::logits:
    return s.vocabulary;
  case scratch::count:
    break;
  }
  return 0;
}

size_t rows_of(const device_stage_shape& s, const step_limits& limits, scratch which) {
  if (which == scratch::selected || which == scratch::logits)
    return s.ends ? limits.logits_rows : 0;
  return limits.tokens;
}

element type_for(element compute, scratch which) {
  return which == scratch::hidden || which == scratch::logits ? element::fp32 : compute;
}

/// Rows begin at 16 bytes, whatever the width.
size_t stride_of(element type, size_t columns) {
  const size_t step = 16 / size_of(type);
  return (columns + step - 1) / step * step;
}

size_t bytes_of(const device_backend_options& o, const step_limits& limits, scratch which) {
  const auto type = type_for(element_of(o.compute), which);
  return rows_of(o.shape, limits, which) * stride_of(type, columns_of(o.shape, which)) *
         size_of(type);
}

/// What every call of `linear` may need, the largest.
size_t linear_bytes(const device_backend_options& o, const step_limits& limits) {
  const auto& s = o.shape;
  const auto type = element_of(o.compute);
  const auto call = [&](uint32_t rows, uint32_t n, uint32_t k, element out) {
    linear_call c;
    c.x = {nullptr, type, rows, k, k};
    c.by = {nullptr, type, n, k, nullptr, o.quantized, nullptr};
    c.y = {nullptr, out, rows, n, n};
    return c;
  };
  static constexpr norm some_norm{};
  auto qkv = call(limits.tokens, s.qkv_width, s.hidden, type);
  qkv.before = &some_norm;
  qkv.x.type = element::fp32;
  auto up = call(limits.tokens, s.intermediate * (s.gated ? 2 : 1), s.hidden, type);
  up.before = &some_norm;
  up.x.type = element::fp32;
  up.function = activation::silu;
  up.gated = s.gated;
  up.y.columns = s.intermediate;
  auto out = call(limits.tokens, s.hidden, s.q_width, element::fp32);
  out.accumulate = true;
  auto down = call(limits.tokens, s.hidden, s.intermediate, element::fp32);
  down.accumulate = true;
  size_t most = 0;
  for (const auto& c : {qkv, up, out, down})
    most = std::max(most, linear_scratch_bytes(c));
  if (s.ends) {
    auto logits = call(limits.logits_rows, s.vocabulary, s.hidden, element::fp32);
    logits.by.kept_as = quantization::none;
    most = std::max(most, linear_scratch_bytes(logits));
  }
  return most;
}

decode_split choose(const device_backend_options& o, const device_traits& device, uint32_t rows,
                    uint32_t context) {
  return choose_decode_split(device, rows, o.shape.kv_heads, context, o.batch_invariant);
}

} // namespace

step_limits limits_of(const device_stage_shape& s) {
  step_limits l;
  l.tokens = std::max(tokens_bucket(s.max_step_tokens), rows_bucket(s.max_sequences));
  l.rows = rows_bucket(s.max_sequences);
  l.logits_rows = std::min(most_logits_rows, std::max(l.rows, 32u));
  return l;
}

uint64_t working_bytes(const device_backend_options& o, const device_traits& device) {
  const auto limits = limits_of(o.shape);
  uint64_t sum = workspace::gemm_workspace_bytes + linear_bytes(o, limits);
  for (size_t i = 0; i < static_cast<size_t>(scratch::count); ++i)
    sum += bytes_of(o, limits, static_cast<scratch>(i));
  sum += slot_state::bytes_for(o.shape, 2 * limits.rows);
  // Each bucket has workspaces of its own.
  for (uint32_t rows = 1; rows <= limits.rows; rows = rows_bucket(rows + 1)) {
    for (uint32_t context = 1024;; context *= 4) {
      const auto most =
          o.batch_invariant ? o.shape.context : context_class(context, o.shape.context);
      sum += decode_workspace_bytes(rows, o.shape.heads, o.shape.kv_heads, o.shape.head_size,
                                    choose(o, device, rows, most));
      if (most == o.shape.context || context > (1u << 28))
        break;
    }
    if (o.shape.ends)
      sum += sample_workspace_bytes(rows, o.shape.vocabulary);
  }
  if (o.shape.ends) {
    sum += uint64_t{2} * limits.rows * o.shape.vocabulary * sizeof(uint32_t); // Token counts.
    sum += uint64_t{limits.tokens} * (sizeof(draw_result) + max_top * sizeof(top_entry));
  } else {
    // Activations on their way; decode needs no more than a step or two.
    sum += uint64_t{3} * limits.tokens * o.shape.hidden * sizeof(float);
  }
  // Recordings take some 40 KiB a layer; the context and its loaded kernels are not ours to size.
  return sum + (uint64_t{64} << 20);
}

workspace::workspace(const device_backend_options& options, const device_traits& device)
    : options_(options), device_(device), limits_(limits_of(options.shape)),
      linear_(linear_bytes(options, limits_)), gemm_(gemm_workspace_bytes) {
  for (size_t i = 0; i < scratch_.size(); ++i) {
    // Rows that only fill a bucket are computed like any other: of numbers, not of what was left.
    scratch_[i] = zeroed_buffer(bytes_of(options, limits_, static_cast<scratch>(i)));
  }
}

void* workspace::scratch_at(scratch which, size_t rows, size_t columns) const {
  const auto& buffer = scratch_[static_cast<size_t>(which)];
  const auto need = rows * scratch_stride(which, columns) * size_of(type_of(which));
  if (need > buffer.size())
    throw device_failure{ec::step_fault, "a step of " + std::to_string(rows) +
                                             " rows exceeds what the device was set up for"};
  return buffer.data();
}

size_t workspace::scratch_stride(scratch which, size_t columns) const {
  // Activations travel between stages without gaps.
  return which == scratch::hidden ? columns : stride_of(type_of(which), columns);
}

element workspace::type_of(scratch which) const {
  return type_for(element_of(options_.compute), which);
}

void* workspace::decode_workspace(uint32_t rows, decode_split split) {
  auto& buffer = decode_[{rows, split.parts, split.part_tokens}];
  if (buffer.empty()) {
    const auto& s = options_.shape;
    buffer = zeroed_buffer(decode_workspace_bytes(rows, s.heads, s.kv_heads, s.head_size, split));
  }
  return buffer.data();
}

void* workspace::sample_workspace(uint32_t positions) {
  auto& buffer = sample_[positions];
  if (buffer.empty()) {
    buffer = zeroed_buffer(sample_workspace_bytes(positions, options_.shape.vocabulary));
  }
  return buffer.data();
}

decode_split workspace::split_for(uint32_t rows, uint32_t context) const {
  return choose(options_, device_, rows, context);
}

} // namespace troupe::models::cuda
