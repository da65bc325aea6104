#include "troupe/models/cuda/kernels/sampling.hpp"

#include <algorithm>

#include "troupe/models/cuda/kernels/sampling_draw.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int greedy_threads = 512;
constexpr int greedy_warps = greedy_threads / 32;
constexpr int unrolled = 8;
constexpr uint32_t most_parts = 64;
constexpr uint32_t part_logits = greedy_threads * unrolled;
constexpr uint32_t no_token = UINT32_MAX;

/// A part of a row, or all of it.
struct summary {
  float highest; ///< Of the raw logits.
  uint32_t best; ///< The lowest id that has it.
  double sum;    ///< Of exp(x - highest).
  /// The same after penalties and masks, before the temperature.
  float score_highest;
  uint32_t score_best;
};

/// All parts together, by one warp, in an order that is always the same.
__device__ summary joined(const summary* parts, uint32_t count) {
  static_assert(most_parts == 64);
  const uint32_t lane = threadIdx.x % 32;
  float highest[2], score_highest[2];
  uint32_t best[2], score_best[2];
  double sum[2];
#pragma unroll
  for (uint32_t n = 0; n < 2; ++n) {
    const summary* from = parts + n * 32 + lane;
    const bool real = n * 32 + lane < count;
    highest[n] = real ? __ldcg(&from->highest) : -INFINITY;
    best[n] = real ? __ldcg(&from->best) : no_token;
    sum[n] = real ? __ldcg(&from->sum) : 0.0;
    score_highest[n] = real ? __ldcg(&from->score_highest) : -INFINITY;
    score_best[n] = real ? __ldcg(&from->score_best) : no_token;
  }
  summary row;
  row.highest = warp_max(fmaxf(highest[0], highest[1]));
  row.score_highest = warp_max(fmaxf(score_highest[0], score_highest[1]));
  uint32_t place = no_token, score_place = no_token;
  row.sum = 0;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    if (highest[n] == row.highest)
      place = min(place, best[n]);
    if (score_highest[n] == row.score_highest)
      score_place = min(score_place, score_best[n]);
    row.sum += highest[n] == -INFINITY
                   ? sum[n]
                   : sum[n] * exp(static_cast<double>(highest[n]) - row.highest);
  }
  row.best = __reduce_min_sync(all_lanes, place);
  row.score_best = __reduce_min_sync(all_lanes, score_place);
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    row.sum += __shfl_xor_sync(all_lanes, row.sum, step);
  return row;
}

struct arguments {
  step_arrays step;
  sample_call call;
  uint32_t parts, part_size;
  uint32_t* counters; ///< [positions]
  summary* rows;      ///< [positions]
  summary* partial;   ///< [positions, parts]
  mass* part_masses;  ///< [positions, parts] of rows that nothing narrows.
  mass* buckets;      ///< [positions, scan_buckets], clear between steps.
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
  const uint32_t slot = a.step.slots[request.row];
  const bool plain =
      a.call.plain_greedy || is_plain(a.call, request, a.call.slots[slot], position_of(a, request));
  float highest = -INFINITY, sum = 0;
  uint32_t best = no_token;
  for (uint32_t start = first + threadIdx.x; start < last; start += greedy_threads * unrolled) {
    float x[unrolled];
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      x[u] = start + u * greedy_threads < last ? logits[start + u * greedy_threads] : -INFINITY;
    const float before = highest;
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      if (x[u] > highest) {
        highest = x[u];
        best = start + u * greedy_threads;
      }
    const float base = highest == -INFINITY ? 0.0f : highest;
    sum *= before == -INFINITY ? 1.0f : expf(before - base);
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      sum += expf(x[u] - base);
  }
  __shared__ float shared[greedy_warps];
  __shared__ uint32_t bests[greedy_warps];
  const float top = block_max<greedy_warps>(highest, shared);
  sum *= highest == -INFINITY ? 1.0f : expf(highest - top);
  const float total = block_sum<greedy_warps>(sum, shared);
  const uint32_t place =
      __reduce_min_sync(all_lanes, highest == top && top != -INFINITY ? best : no_token);
  if (threadIdx.x % 32 == 0)
    bests[threadIdx.x / 32] = place;
  __syncthreads();
  float score_top = top;
  uint32_t score_best = no_token;
  if (!plain) {
    const scores row(logits, a.call.logits.columns, a.call.slots + slot, a.call.counts,
                     position_of(a, request));
    if (row.counts != nullptr || row.masked_ends) {
      float score_highest = -INFINITY;
      for (uint32_t i = first + threadIdx.x; i < last; i += greedy_threads)
        if (const float x = row.processed(logits[i], i); x > score_highest) {
          score_highest = x;
          score_best = i;
        }
      score_top = block_max<greedy_warps>(score_highest, shared);
      const uint32_t own =
          __reduce_min_sync(all_lanes, score_highest == score_top ? score_best : no_token);
      __shared__ uint32_t score_bests[greedy_warps];
      if (threadIdx.x % 32 == 0)
        score_bests[threadIdx.x / 32] = own;
      __syncthreads();
      score_best = __reduce_min_sync(
          all_lanes, threadIdx.x % 32 < greedy_warps ? score_bests[threadIdx.x % 32] : no_token);
    }
  }
  if (threadIdx.x >= 32)
    return;
  const uint32_t lane = threadIdx.x;
  const uint32_t lowest =
      __reduce_min_sync(all_lanes, lane < greedy_warps ? bests[lane] : no_token);
  bool last_one = false;
  if (lane == 0) {
    a.partial[index * a.parts + part] = {top, lowest, static_cast<double>(total), score_top,
                                         score_best == no_token ? lowest : score_best};
    __threadfence();
    last_one = atomicAdd(a.counters + index, 1) + 1 == a.parts;
  }
  if (__ballot_sync(all_lanes, last_one) == 0)
    return;
  __threadfence();
  const summary row = joined(a.partial + index * a.parts, a.parts);
  if (lane != 0)
    return;
  a.counters[index] = 0;
  a.rows[index] = row;
  if (plain)
    publish(a, index, slot, row.best, logprob_of(row, row.highest), fault_of(row), 0);
}

/// As models/sampling/philox.hpp has it.
__device__ double philox_uniform(uint64_t seed, uint32_t index, uint32_t position) {
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
  return static_cast<double>((uint64_t{c0} << 32 | c1) >> 11) * 0x1p-53;
}

/// What becomes of a request: the token, or what is wrong with the row.
struct choice {
  uint32_t token = no_token;
  draw_fault fault = draw_fault::none;
  float highest = 0; ///< Of the scores, where something is drawn.
};

__device__ choice chosen_so_far(const summary& row, const slot_sampling& p, bool draws) {
  choice c{row.score_best, fault_of(row), row.score_highest};
  if (c.fault != draw_fault::none || !draws)
    return c;
  if (p.sample != 0)
    c.highest *= 1.0f / p.temperature; // As scores::of; it keeps the order.
  if (c.highest == INFINITY)
    c.fault = draw_fault::overflow;
  else if (c.highest == -INFINITY)
    c.fault = draw_fault::all_masked;
  return c;
}

/// Adds up what drawing starts from, part by part: buckets where top_k or top_p narrow the row,
/// else what the parts weigh.
__global__ void __launch_bounds__(greedy_threads) weigh_kernel(const arguments a) {
  __shared__ mass buckets[scan_buckets];
  __shared__ mass warps[greedy_warps];
  release_next();
  wait_for_previous();
  const uint32_t index = blockIdx.y, part = blockIdx.x, count = a.call.logits.columns;
  const draw_request request = a.call.requests[index];
  if (request.row == no_row || request.target >= 0)
    return;
  const slot_sampling* p = a.call.slots + a.step.slots[request.row];
  if (p->sample == 0)
    return;
  const choice known = chosen_so_far(a.rows[index], *p, true);
  if (known.fault != draw_fault::none)
    return;
  const scores row(static_cast<const float*>(a.call.logits.data) + index * a.call.logits.stride,
                   count, p, a.call.counts, position_of(a, request));
  const uint32_t first = part * a.part_size, last = min(first + a.part_size, count);
  if (!drawing::narrows(*p, count)) {
    mass sum = 0;
    for (uint32_t i = first + threadIdx.x; i < last; i += greedy_threads)
      sum += drawing::unnarrowed(*p, known.highest, row.of(row.logits[i], i));
    sum = warp_total(sum);
    if (threadIdx.x % 32 == 0)
      warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int w = 1; w < greedy_warps; ++w)
        sum += warps[w];
      a.part_masses[index * a.parts + part] = sum;
    }
    return;
  }
  for (uint32_t i = threadIdx.x; i < scan_buckets; i += greedy_threads)
    buckets[i] = 0;
  __syncthreads();
  for (uint32_t i = first + threadIdx.x; i < last; i += greedy_threads) {
    uint32_t bucket = 0;
    const mass m =
        drawing::first_bucket(*p, count, known.highest, row.of(row.logits[i], i), bucket);
    if (m != 0)
      add_to(buckets + bucket, m);
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < scan_buckets; i += greedy_threads)
    if (buckets[i] != 0)
      atomicAdd(a.buckets + size_t{index} * scan_buckets + i, buckets[i]);
}

/// Draws from a row that nothing narrows: finds the part, then the token in it.
__device__ uint32_t draw_plainly(const arguments& a, uint32_t index, const scores& row,
                                 float highest, double u, scan_memory& s) {
  const mass* parts = a.part_masses + index * a.parts;
  mass total = 0;
  for (uint32_t n = 0; n < a.parts; ++n)
    total += __ldcg(parts + n);
  const double target = u * static_cast<double>(total);
  mass before = 0;
  uint32_t part = 0;
  for (uint32_t n = 0; n < a.parts; ++n) {
    const mass own = __ldcg(parts + n);
    if (own == 0)
      continue;
    part = n;
    if (static_cast<double>(before + own) > target || before + own == total)
      break;
    before += own;
  }
  const uint32_t first = part * a.part_size, last = min(first + a.part_size, row.count);
  return find_index(
      s, row, first / 128 * 128, last,
      [&](uint32_t i, float score) -> mass {
        return i >= first && i < last ? drawing::unnarrowed(*row.p, highest, score) : 0;
      },
      [&](mass sum) { return static_cast<double>(before + sum) > target; });
}

/// The n most likely tokens of a raw row, sorted. @returns how many there are.
__device__ uint32_t write_top(const scores& raw, uint32_t n, const summary& row, scan_memory& s,
                              top_entry* to) {
  n = min(n, min(max_top, raw.count));
  uint32_t above = 0;
  const uint32_t key = select_key(s, raw, n, above);
  const mass ties = n - above;
  const uint32_t last_tie = find_index(
      s, raw, [&](uint32_t, float x) -> mass { return ordered(x) == key ? 1 : 0; },
      [&](mass sum) { return sum >= ties; });
  fill_list(s, raw, [&](uint32_t i, float x) {
    const uint32_t k = ordered(x);
    return k > key || (k == key && i <= last_tie);
  });
  if (threadIdx.x < n) {
    const uint64_t own = s.list[threadIdx.x];
    uint32_t place = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t other = static_cast<uint32_t>(s.list[i] >> 32),
                     key_own = static_cast<uint32_t>(own >> 32);
      place += other > key_own || (other == key_own && id_of(s.list[i]) < id_of(own)) ? 1 : 0;
    }
    to[place] = {static_cast<int32_t>(id_of(own)), logprob_of(row, raw.logits[id_of(own)])};
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
  const slot_sampling* p = a.call.slots + slot;
  if (is_plain(a.call, request, *p, position))
    return;
  const scores row(static_cast<const float*>(a.call.logits.data) + index * a.call.logits.stride,
                   count, p, a.call.counts, position);
  const summary raw = a.rows[index];
  choice chosen = chosen_so_far(raw, *p, request.target < 0);
  if (chosen.fault == draw_fault::none && request.target >= 0) {
    chosen.token = min(static_cast<uint32_t>(request.target), count - 1);
  } else if (chosen.fault == draw_fault::none && p->sample != 0) {
    const double u = philox_uniform(p->seed, p->sequence_index, position);
    chosen.token =
        drawing::narrows(*p, count)
            ? drawing(row, chosen.highest, a.buckets + size_t{index} * scan_buckets, s).run(u)
            : draw_plainly(a, index, row, chosen.highest, u, s);
  }
  uint32_t top_count = 0;
  if (chosen.fault == draw_fault::none && request.top_n > 0 && a.call.top != nullptr)
    top_count = write_top(scores(row.logits, count), request.top_n, raw, s,
                          a.call.top + size_t{index} * max_top);
  __syncthreads();
  if (threadIdx.x != 0)
    return;
  const float logprob =
      chosen.fault == draw_fault::none ? logprob_of(raw, row.logits[chosen.token]) : 0.0f;
  publish(a, index, slot, chosen.token, logprob, chosen.fault, top_count);
  if (row.counts != nullptr && chosen.fault == draw_fault::none && request.target < 0)
    a.call.counts[size_t{p->counts_row} * count + chosen.token] += 1;
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
         size_t{positions} *
             ((1 + most_parts) * sizeof(summary) + (most_parts + scan_buckets) * sizeof(mass));
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
              .partial = nullptr,
              .part_masses = nullptr,
              .buckets = nullptr};
  // The cuts depend on the vocabulary alone, so that sums have the same bits in every batch.
  a.parts = std::clamp(ceil_div(vocabulary, part_logits), 1u, most_parts);
  a.part_size = ceil_div(vocabulary, a.parts);
  a.parts = ceil_div(vocabulary, a.part_size);
  a.counters = static_cast<uint32_t*>(call.workspace);
  a.rows = reinterpret_cast<summary*>(a.counters + counter_words(positions));
  a.partial = a.rows + positions;
  a.part_masses = reinterpret_cast<mass*>(a.partial + size_t{positions} * most_parts);
  a.buckets = a.part_masses + size_t{positions} * most_parts;
  if (const auto e = launch(on, look_kernel, dim3{a.parts, positions}, greedy_threads, 0, a);
      e != cudaSuccess || call.plain_greedy)
    return e;
  if (const auto e = launch(on, weigh_kernel, dim3{a.parts, positions}, greedy_threads, 0, a);
      e != cudaSuccess)
    return e;
  return launch(on, sample_kernel, positions, scan_threads, 0, a);
}

cudaError_t count_history(const launcher& on, const int32_t* history, uint32_t length,
                          uint32_t prompt_length, uint32_t* row, uint32_t vocabulary) {
  return launch(on, count_kernel, 1, scan_threads, 0, history, length, prompt_length, row,
                vocabulary);
}

} // namespace troupe::models::cuda
