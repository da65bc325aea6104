#include "troupe/models/cuda/kernels/sampling.hpp"

#include <algorithm>

#include "troupe/models/cuda/kernels/sampling_scan.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int greedy_threads = 512;
constexpr int greedy_warps = greedy_threads / 32;
constexpr uint32_t most_parts = 64;
constexpr uint32_t least_part = 2048; // Logits of a part.
constexpr uint32_t no_token = UINT32_MAX;

/// A part of a raw row, or all of it: the highest value, the lowest id that has it, and the sum of
/// exp(x - highest).
struct summary {
  float highest;
  uint32_t best;
  double sum;

  __device__ void add(const summary& other) {
    if (other.best == no_token && isnan(other.sum)) {
      sum = other.sum;
      return;
    }
    if (other.highest > highest || (other.highest == highest && other.best < best)) {
      sum = sum * exp(static_cast<double>(highest) - other.highest) + other.sum;
      if (highest == -INFINITY && !isnan(sum))
        sum = other.sum;
      highest = other.highest;
      best = other.best;
    } else if (other.highest != -INFINITY || isnan(other.sum)) {
      sum += other.sum * exp(static_cast<double>(other.highest) - highest);
    }
  }
};

struct arguments {
  step_arrays step;
  sample_call call;
  uint32_t parts, part_size;
  uint32_t* counters; ///< [positions]
  summary* rows;      ///< [positions]
  summary* partial;   ///< [positions, parts]
};

__device__ float logprob_of(const summary& row, float logit) {
  const double value = static_cast<double>(logit) - row.highest - log(row.sum);
  return static_cast<float>(fmin(fmax(value, -3.402823466e38), 0.0));
}

__device__ draw_fault fault_of(const summary& row) {
  if (row.highest == INFINITY)
    return draw_fault::infinite;
  if (row.best == no_token || row.highest == -INFINITY)
    return isnan(row.sum) ? draw_fault::nan : draw_fault::no_finite;
  return isnan(row.sum) ? draw_fault::nan : draw_fault::none;
}

/// Whether the first pass is all that a request needs.
__device__ bool is_plain(const sample_call& call, const draw_request& request,
                         const slot_sampling& p, uint32_t position) {
  return call.plain_greedy ||
         (request.target < 0 && request.top_n == 0 && p.sample == 0 && p.counts_row == UINT32_MAX &&
          (p.eos_count == 0 || position >= p.eos_from));
}

__device__ uint32_t position_of(const arguments& a, const draw_request& request) {
  if (!a.call.positions_from_step)
    return request.position;
  const uint32_t last = a.step.first_tokens[request.row] + a.step.token_counts[request.row] - 1;
  return a.step.positions[last] + 1;
}

__device__ void publish(const arguments& a, uint32_t index, uint32_t slot, uint32_t token,
                        float logprob, draw_fault fault, uint32_t top_count) {
  const bool drawn = fault == draw_fault::none;
  a.call.results[index] = {.token = drawn ? static_cast<int32_t>(token) : -1,
                           .logprob = drawn ? logprob : 0.0f,
                           .fault = fault,
                           .top_count = top_count};
  if (drawn && a.call.requests[index].target < 0)
    a.call.latest[slot] = static_cast<int32_t>(token);
}

/// Highest value, its place and the normalizer of each row, cut into parts; the block that ends
/// last joins them in order and answers the plain requests.
__global__ void __launch_bounds__(greedy_threads) look_kernel(const arguments a) {
  __shared__ summary warps[greedy_warps];
  __shared__ bool last_one;
  release_next();
  wait_for_previous();
  const uint32_t index = blockIdx.y, part = blockIdx.x;
  const draw_request request = a.call.requests[index];
  if (request.row == no_row)
    return;
  const float* logits =
      static_cast<const float*>(a.call.logits.data) + index * a.call.logits.stride;
  const uint32_t first = part * a.part_size;
  const uint32_t last = min(first + a.part_size, a.call.logits.columns);
  float highest = -INFINITY;
  uint32_t best = no_token;
  for (uint32_t i = first + threadIdx.x; i < last; i += greedy_threads) {
    const float x = logits[i];
    if (x > highest) {
      highest = x;
      best = i;
    }
  }
  // Second time from the L1: exact about which maximum the sum refers to.
  __shared__ float shared[greedy_warps];
  const float top = block_max<greedy_warps>(highest, shared);
  float sum = 0;
  for (uint32_t i = first + threadIdx.x; i < last; i += greedy_threads)
    sum += expf(logits[i] - (top == -INFINITY ? 0.0f : top));
  const float total = block_sum<greedy_warps>(sum, shared);
  uint32_t place = highest == top ? best : no_token;
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    place = min(place, __shfl_xor_sync(all_lanes, place, step));
  if (threadIdx.x % 32 == 0)
    warps[threadIdx.x / 32].best = place;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < greedy_warps; ++w)
      place = min(place, warps[w].best);
    a.partial[index * a.parts + part] = {top, place, static_cast<double>(total)};
    __threadfence();
    last_one = atomicAdd(a.counters + index, 1) + 1 == a.parts;
    if (last_one) {
      a.counters[index] = 0;
      __threadfence();
      summary row{-INFINITY, no_token, 0};
      for (uint32_t p = 0; p < a.parts; ++p) {
        const volatile summary* from = a.partial + index * a.parts + p;
        row.add({from->highest, from->best, from->sum});
      }
      a.rows[index] = row;
      const uint32_t slot = a.step.slots[request.row];
      if (a.call.plain_greedy ||
          is_plain(a.call, request, a.call.slots[slot], position_of(a, request)))
        publish(a, index, slot, row.best, logprob_of(row, row.highest), fault_of(row), 0);
    }
  }
}

/// The scores of a row after penalties, masks and temperature.
struct scores {
  const float* logits;
  const uint32_t* counts; ///< Null: no penalties.
  slot_sampling p;
  bool masked_ends;

  __device__ float operator()(uint32_t i) const {
    float x = logits[i];
    if (counts != nullptr)
      if (const uint32_t seen = counts[i]; seen != 0) {
        if (p.prompt_penalty != 1.0f && (seen & in_prompt_bit) != 0)
          x = x < 0 ? x * p.prompt_penalty : x / p.prompt_penalty;
        if (p.repetition_penalty != 1.0f)
          x = x < 0 ? x * p.repetition_penalty : x / p.repetition_penalty;
        // Rounded like the host's, which fuses nothing.
        if (const uint32_t times = seen & ~in_prompt_bit; times != 0)
          x = __fsub_rn(x, __fadd_rn(__fmul_rn(p.frequency_penalty, static_cast<float>(times)),
                                     p.presence_penalty));
      }
    if (masked_ends)
      for (uint32_t e = 0; e < p.eos_count; ++e)
        if (static_cast<uint32_t>(p.eos[e]) == i)
          x = -INFINITY;
    return p.sample != 0 ? x / p.temperature : x;
  }
};

__device__ uint64_t philox_bits(uint64_t seed, uint32_t index, uint32_t position) {
  uint32_t c0 = position, c1 = index, c2 = 0, c3 = 0;
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t x = uint64_t{0xD2511F53u} * c0, y = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(y >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(y);
    c2 = static_cast<uint32_t>(x >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(x);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return uint64_t{c0} << 32 | c1;
}

struct choice {
  uint32_t token = no_token;
  draw_fault fault = draw_fault::none;
};

/// The highest score and the lowest id that has it.
__device__ choice best_of(const scores& row, uint32_t count, scan_memory& s, float& highest) {
  float top = -INFINITY;
  uint32_t best = no_token;
  for (uint32_t i = threadIdx.x; i < count; i += scan_threads)
    if (const float x = row(i); x > top) {
      top = x;
      best = i;
    }
  auto* shared = reinterpret_cast<float*>(s.buckets);
  highest = block_max<scan_warps>(top, shared);
  if (threadIdx.x == 0)
    s.found = no_token;
  __syncthreads();
  if (top == highest && best != no_token)
    atomicMin(&s.found, best);
  __syncthreads();
  choice result{s.found, draw_fault::none};
  __syncthreads();
  if (highest == INFINITY)
    result.fault = draw_fault::overflow;
  else if (highest == -INFINITY)
    result.fault = draw_fault::all_masked;
  return result;
}

/// Distances below the highest score in steps of 2^-17, up to 32.
constexpr float key_scale = 131072.0f;
constexpr uint32_t key_bits = 22;

__device__ uint32_t drop_key(float highest, float score) {
  const float steps = (highest - score) * key_scale;
  return steps < static_cast<float>((1u << key_bits) - 1) ? static_cast<uint32_t>(steps)
                                                          : (1u << key_bits) - 1;
}

__device__ uint32_t draw_one(const scores& row, uint32_t count, float highest, uint32_t position,
                             scan_memory& s) {
  const slot_sampling& p = row.p;
  float bound = -INFINITY; // top_k
  if (p.top_k > 0 && static_cast<uint32_t>(p.top_k) < count) {
    uint32_t above = 0;
    const uint32_t key = select_key(s, count, static_cast<uint32_t>(p.top_k), above,
                                    [&](uint32_t i) { return ordered(row(i)); });
    bound = __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
  }
  auto mass_of = [&](float score) -> mass {
    return score >= bound ? static_cast<mass>(expf(score - highest) * 0x1p40f) : 0;
  };
  // top_p: from the least likely up, what adds up to the cut goes, ties by id.
  uint32_t cut_key = UINT32_MAX, cut_id = 0;
  if (p.top_p_cut > 0) {
    mass before = 0;
    fill_buckets(s, count, [&](uint32_t i, uint32_t& bucket) {
      const float score = row(i);
      bucket = drop_key(highest, score) >> 11;
      return mass_of(score);
    });
    // All of it, for the shares.
    __syncthreads();
    mass part = 0;
    for (uint32_t i = threadIdx.x; i < scan_buckets; i += scan_threads)
      part += s.buckets[i];
    part = warp_total(part);
    if (threadIdx.x % 32 == 0)
      s.warps[threadIdx.x / 32] = part;
    __syncthreads();
    mass total = 0;
    for (int w = 0; w < scan_warps; ++w)
      total += s.warps[w];
    auto reached = [&](mass sum) {
      return static_cast<float>(static_cast<double>(sum) / static_cast<double>(total)) >
             p.top_p_cut;
    };
    const uint32_t coarse = find_bucket(s, before, reached);
    if (coarse == scan_buckets) {
      // Not even everything reaches the cut: the last of the best stays alone.
      cut_key = drop_key(highest, highest);
      cut_id = find_index(
          s, count, [&](uint32_t i) -> mass { return row(i) == highest ? 1 : 0; },
          [](mass) { return false; });
    } else {
      fill_buckets(s, count, [&](uint32_t i, uint32_t& bucket) -> mass {
        const float score = row(i);
        const uint32_t key = drop_key(highest, score);
        bucket = key & 0x7ffu;
        return key >> 11 == coarse ? mass_of(score) : 0;
      });
      const uint32_t fine = find_bucket(s, before, reached);
      cut_key = coarse << 11 | fine;
      const mass base = before;
      cut_id = find_index(
          s, count,
          [&](uint32_t i) -> mass {
            const float score = row(i);
            return drop_key(highest, score) == cut_key ? mass_of(score) : 0;
          },
          [&](mass sum) { return reached(base + sum); });
    }
  }
  auto kept = [&](uint32_t i) -> mass {
    const float score = row(i);
    if (cut_key != UINT32_MAX) {
      const uint32_t key = drop_key(highest, score);
      if (key > cut_key || (key == cut_key && i < cut_id))
        return 0;
    }
    // The best has mass 2^40, so min_p's share of it needs no sum.
    if (p.min_p > 0 && expf(score - highest) < p.min_p)
      return 0;
    return mass_of(score);
  };
  mass part = 0;
  for (uint32_t i = threadIdx.x; i < count; i += scan_threads)
    part += kept(i);
  part = warp_total(part);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    s.warps[threadIdx.x / 32] = part;
  __syncthreads();
  mass total = 0;
  for (int w = 0; w < scan_warps; ++w)
    total += s.warps[w];
  const double u =
      static_cast<double>(philox_bits(p.seed, p.sequence_index, position) >> 11) * 0x1p-53;
  const double target = u * static_cast<double>(total);
  return find_index(s, count, kept, [&](mass sum) { return static_cast<double>(sum) > target; });
}

/// The n most likely tokens, sorted. @returns how many there are.
__device__ uint32_t write_top(const float* logits, uint32_t count, uint32_t n, const summary& row,
                              scan_memory& s, top_entry* to) {
  __shared__ uint32_t found_ids[max_top];
  __shared__ uint32_t found_count;
  n = min(n, min(max_top, count));
  uint32_t above = 0;
  auto key_of = [&](uint32_t i) { return ordered(logits[i]); };
  const uint32_t key = select_key(s, count, n, above, key_of);
  const mass ties = n - above;
  const uint32_t last_tie = find_index(
      s, count, [&](uint32_t i) -> mass { return key_of(i) == key ? 1 : 0; },
      [&](mass sum) { return sum >= ties; });
  if (threadIdx.x == 0)
    found_count = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += scan_threads) {
    const uint32_t k = key_of(i);
    if (k > key || (k == key && i <= last_tie))
      if (const uint32_t place = atomicAdd(&found_count, 1); place < max_top)
        found_ids[place] = i;
  }
  __syncthreads();
  if (threadIdx.x < n) {
    const uint32_t own = found_ids[threadIdx.x], own_key = key_of(own);
    uint32_t place = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t other = found_ids[i], other_key = key_of(other);
      place += other_key > own_key || (other_key == own_key && other < own) ? 1 : 0;
    }
    to[place] = {static_cast<int32_t>(own), logprob_of(row, logits[own])};
  }
  __syncthreads();
  return n;
}

/// A block for each request that the first pass could not answer.
__global__ void __launch_bounds__(scan_threads) sample_kernel(const arguments a) {
  __shared__ scan_memory s;
  release_next();
  wait_for_previous();
  const uint32_t index = blockIdx.x;
  const draw_request request = a.call.requests[index];
  if (request.row == no_row)
    return;
  const uint32_t slot = a.step.slots[request.row], count = a.call.logits.columns;
  const uint32_t position = position_of(a, request);
  scores row{static_cast<const float*>(a.call.logits.data) + index * a.call.logits.stride, nullptr,
             a.call.slots[slot], false};
  if (is_plain(a.call, request, row.p, position))
    return;
  if (row.p.counts_row != UINT32_MAX && a.call.counts != nullptr)
    row.counts = a.call.counts + size_t{row.p.counts_row} * count;
  row.masked_ends = row.p.eos_count != 0 && position < row.p.eos_from;
  const summary raw = a.rows[index];
  choice chosen{raw.best, fault_of(raw)};
  if (chosen.fault == draw_fault::none && request.target >= 0) {
    chosen.token = min(static_cast<uint32_t>(request.target), count - 1);
  } else if (chosen.fault == draw_fault::none) {
    float highest = raw.highest;
    if (row.counts != nullptr || row.masked_ends || row.p.sample != 0)
      chosen = best_of(row, count, s, highest);
    if (chosen.fault == draw_fault::none && row.p.sample != 0)
      chosen.token = draw_one(row, count, highest, position, s);
  }
  uint32_t top_count = 0;
  if (chosen.fault == draw_fault::none && request.top_n > 0 && a.call.top != nullptr)
    top_count =
        write_top(row.logits, count, request.top_n, raw, s, a.call.top + size_t{index} * max_top);
  __syncthreads();
  if (threadIdx.x != 0)
    return;
  const float logprob =
      chosen.fault == draw_fault::none ? logprob_of(raw, row.logits[chosen.token]) : 0.0f;
  publish(a, index, slot, chosen.token, logprob, chosen.fault, top_count);
  if (row.counts != nullptr && chosen.fault == draw_fault::none && request.target < 0)
    a.call.counts[size_t{row.p.counts_row} * count + chosen.token] += 1;
}

__global__ void __launch_bounds__(scan_threads)
    count_kernel(const int32_t* history, uint32_t length, uint32_t prompt_length, uint32_t* row,
                 uint32_t vocabulary) {
  release_next();
  wait_for_previous();
  for (uint32_t i = threadIdx.x; i < vocabulary; i += scan_threads)
    row[i] = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < length; i += scan_threads) {
    const auto token = static_cast<uint32_t>(history[i]);
    if (token >= vocabulary)
      continue;
    if (i < prompt_length)
      atomicOr(row + token, in_prompt_bit);
    else
      atomicAdd(row + token, 1);
  }
}

uint32_t counter_words(uint32_t positions) {
  return ceil_div(positions, 4) * 4;
}

} // namespace

size_t sample_workspace_bytes(uint32_t positions, uint32_t) {
  return counter_words(positions) * sizeof(uint32_t) +
         size_t{positions} * (1 + most_parts) * sizeof(summary);
}

cudaError_t sample(const launcher& on, const step_arrays& step, const sample_call& call) {
  const uint32_t positions = call.logits.rows, vocabulary = call.logits.columns;
  if (call.logits.type != element::fp32 || vocabulary == 0 || call.workspace == nullptr)
    return cudaErrorInvalidValue;
  if (positions == 0)
    return cudaSuccess;
  arguments a{.step = step,
              .call = call,
              .parts = 1,
              .part_size = vocabulary,
              .counters = nullptr,
              .rows = nullptr,
              .partial = nullptr};
  // The cuts depend on the vocabulary alone, so that sums have the same bits in every batch.
  a.parts = std::clamp(ceil_div(vocabulary, 2 * least_part), 1u, most_parts);
  a.part_size = ceil_div(vocabulary, a.parts);
  a.parts = ceil_div(vocabulary, a.part_size);
  a.counters = static_cast<uint32_t*>(call.workspace);
  a.rows = reinterpret_cast<summary*>(a.counters + counter_words(positions));
  a.partial = a.rows + positions;
  if (const auto e = launch(on, look_kernel, dim3{a.parts, positions}, greedy_threads, 0, a);
      e != cudaSuccess || call.plain_greedy)
    return e;
  return launch(on, sample_kernel, positions, scan_threads, 0, a);
}

cudaError_t count_history(const launcher& on, const int32_t* history, uint32_t length,
                          uint32_t prompt_length, uint32_t* row, uint32_t vocabulary) {
  return launch(on, count_kernel, 1, scan_threads, 0, history, length, prompt_length, row,
                vocabulary);
}

} // namespace troupe::models::cuda
