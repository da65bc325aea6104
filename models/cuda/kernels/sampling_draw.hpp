#pragma once

#include "troupe/models/cuda/kernels/sampling_scan.hpp"

/// Narrowing a distribution and drawing from it. Only for .cu files.
namespace troupe::models::cuda {

/// One row's draw by one block. Looks at the whole row until what is left fits into the block's
/// list.
class drawing {
public:
  /// @param highest The highest score, finite.
  /// @param ready   The row's first buckets, [scan_buckets], filled by `first_bucket`; cleared when
  ///                they are used.
  __device__ drawing(const scores& row, float highest, mass* ready, scan_memory& s)
      : row_(row), highest_(highest), ready_(ready), s_(s) {}

  /// Whether a request narrows by what needs buckets.
  __device__ static bool narrows(const slot_sampling& p, uint32_t count) {
    return cuts_top_k(p, count) || p.top_p_cut > 0;
  }

  /// What a token adds to which of the first buckets.
  __device__ static mass first_bucket(const slot_sampling& p, uint32_t count, float highest,
                                      float score, uint32_t& bucket) {
    const uint32_t coarse = coarse_key(highest, score);
    if (cuts_top_k(p, count)) {
      bucket = scan_buckets - 1 - coarse;
      return 1;
    }
    bucket = coarse;
    return whole_mass(highest, score);
  }

  /// What a token weighs when neither top_k nor top_p is on.
  __device__ static mass unnarrowed(const slot_sampling& p, float highest, float score) {
    const float share = share_of(highest, score);
    return share < p.min_p ? 0 : static_cast<mass>(share * 0x1p40f);
  }

  /// @param u In [0, 1).
  __device__ uint32_t run(double u) {
    const slot_sampling& p = *row_.p;
    if (cuts_top_k(p, row_.count))
      keep_top_k(static_cast<uint32_t>(p.top_k));
    if (p.top_p_cut > 0)
      keep_top_p(p.top_p_cut);
    return listed_ ? draw_listed(u) : draw_anywhere(u);
  }

private:
  __device__ static bool cuts_top_k(const slot_sampling& p, uint32_t count) {
    return p.top_k > 0 && static_cast<uint32_t>(p.top_k) < count;
  }
  __device__ static mass whole_mass(float highest, float score) {
    return static_cast<mass>(share_of(highest, score) * 0x1p40f);
  }
  __device__ uint32_t key_of(float score) const { return drop_key(highest_, score); }
  __device__ uint32_t coarse_of(float score) const { return coarse_key(highest_, score); }

  /// What top_k leaves of a token.
  __device__ mass mass_of(float score) const {
    return score >= bound_ ? whole_mass(highest_, score) : 0;
  }
  /// What everything leaves of it.
  __device__ mass kept(uint32_t id, float score) const {
    if (by_key_) {
      const uint32_t key = key_of(score);
      if (key > cut_key_ || (key == cut_key_ && id < cut_id_))
        return 0;
    } else if (score < cut_ || (score == cut_ && id < cut_id_)) {
      return 0;
    }
    // The best has mass 2^40, so min_p's share of it needs no sum.
    if (share_of(highest_, score) < row_.p->min_p)
      return 0;
    return mass_of(score);
  }

  /// Fetches the first buckets, and leaves them clear for the next step.
  __device__ void take_buckets() {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < scan_buckets; i += scan_threads) {
      s_.buckets[i] = __ldcg(ready_ + i);
      ready_[i] = 0;
    }
    __syncthreads();
  }

  /// Lists all tokens down to a coarse distance, if they are not too many.
  __device__ void list_down_to(uint32_t coarse) {
    count_ = fill_list(s_, row_, [&](uint32_t, float score) { return coarse_of(score) <= coarse; });
    listed_ = count_ <= scan_list;
  }

  __device__ void keep_top_k(uint32_t k) {
    take_buckets();
    mass before = 0;
    const uint32_t bucket = find_bucket(s_, before, [&](mass total) { return total >= k; });
    list_down_to(scan_buckets - 1 - bucket);
    if (!listed_) {
      uint32_t above = 0;
      const uint32_t key = select_key(s_, row_, k, above);
      bound_ = value_of(key);
      return;
    }
    sort_list(s_, count_);
    bound_ = score_of(s_.list[count_ - k]);
  }

  /// From the least likely up, ties by id, what adds up to the cut goes.
  __device__ void keep_top_p(float cut) {
    mass below = 0, total = 0;
    auto reached = [&](mass sum) {
      return static_cast<float>(static_cast<double>(sum) / static_cast<double>(total)) > cut;
    };
    if (listed_) {
      mass part = 0;
      for (uint32_t i = threadIdx.x; i < count_; i += scan_threads)
        part += mass_of(score_of(s_.list[i]));
      total = block_total(s_, part);
    } else {
      if (cuts_top_k(*row_.p, row_.count))
        fill_buckets(s_, row_, [&](uint32_t, float score, uint32_t& bucket) {
          bucket = coarse_of(score);
          return mass_of(score);
        });
      else
        take_buckets();
      __syncthreads();
      mass part = 0;
      for (uint32_t i = threadIdx.x; i < scan_buckets; i += scan_threads)
        part += s_.buckets[i];
      total = block_total(s_, part);
    }
    if (!reached(total)) {
      keep_last_best();
      return;
    }
    if (!listed_) {
      const uint32_t coarse = find_bucket(s_, below, reached);
      list_down_to(coarse);
      if (!listed_) {
        cut_within(coarse, below, reached);
        return;
      }
    }
    sort_list(s_, count_);
    mass own[2], all = 0;
    for (uint32_t n = 0; n < 2; ++n) {
      const uint32_t i = threadIdx.x * 2 + n;
      own[n] = i < count_ ? mass_of(score_of(s_.list[i])) : 0;
    }
    mass before = below + sum_before(s_, own[0] + own[1], all);
    for (uint32_t n = 0; n < 2; ++n) {
      if (own[n] != 0 && !reached(before) && reached(before + own[n]))
        s_.crossing = s_.list[threadIdx.x * 2 + n];
      before += own[n];
    }
    __syncthreads();
    cut_ = score_of(s_.crossing);
    cut_id_ = id_of(s_.crossing);
    __syncthreads();
  }

  /// Not even everything reaches the cut: the last of the best stays alone.
  __device__ void keep_last_best() {
    cut_ = highest_;
    cut_id_ = find_index(
        s_, row_, [&](uint32_t, float score) -> mass { return score == highest_ ? 1 : 0; },
        [](mass) { return false; });
  }

  /// Too many tokens lie as close together as a coarse step: finer steps, then ids.
  template <class Reached>
  __device__ void cut_within(uint32_t coarse, mass below, Reached reached) {
    fill_buckets(s_, row_, [&](uint32_t, float score, uint32_t& bucket) -> mass {
      bucket = key_of(score) & 0x7ffu;
      return coarse_of(score) == coarse ? mass_of(score) : 0;
    });
    cut_key_ = coarse << 11 | find_bucket(s_, below, reached);
    by_key_ = true;
    cut_id_ = find_index(
        s_, row_,
        [&](uint32_t, float score) -> mass {
          return key_of(score) == cut_key_ ? mass_of(score) : 0;
        },
        [&](mass sum) { return reached(below + sum); });
  }

  __device__ uint32_t draw_listed(double u) {
    // In the order of ids.
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count_; i += scan_threads)
      s_.list[i] = s_.list[i] << 32 | s_.list[i] >> 32;
    sort_list(s_, count_);
    mass own[2], total = 0;
    for (uint32_t n = 0; n < 2; ++n) {
      const uint32_t i = threadIdx.x * 2 + n;
      own[n] = i < count_ ? kept(static_cast<uint32_t>(s_.list[i] >> 32),
                                 value_of(static_cast<uint32_t>(s_.list[i])))
                          : 0;
    }
    mass before = sum_before(s_, own[0] + own[1], total);
    // Below 2^53, so that the last unit is there even when u times the total rounds up.
    const double target = fmin(u * static_cast<double>(total), static_cast<double>(total - 1));
    for (uint32_t n = 0; n < 2; ++n) {
      if (static_cast<double>(before) <= target && target < static_cast<double>(before + own[n]))
        s_.found = static_cast<uint32_t>(s_.list[threadIdx.x * 2 + n] >> 32);
      before += own[n];
    }
    __syncthreads();
    return s_.found;
  }

  __device__ uint32_t draw_anywhere(double u) {
    mass part = 0;
    row_.each([&](uint32_t i, float score) { part += kept(i, score); });
    const double target = u * static_cast<double>(block_total(s_, part));
    return find_index(
        s_, row_, [&](uint32_t i, float score) { return kept(i, score); },
        [&](mass sum) { return static_cast<double>(sum) > target; });
  }

  const scores& row_;
  float highest_;
  mass* ready_;
  scan_memory& s_;
  bool listed_ = false;     ///< The list holds all that is left (and maybe more).
  uint32_t count_ = 0;      ///< Of the list.
  float bound_ = -INFINITY; ///< top_k
  float cut_ = -INFINITY;   ///< top_p: the least likely token that stays, and its id.
  uint32_t cut_id_ = 0;
  bool by_key_ = false; ///< The cut is a key rather than a score.
  uint32_t cut_key_ = 0;
};

} // namespace troupe::models::cuda
