#include "troupe/examples/load_test/report/timeline.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "troupe/examples/load_test/report/statistics.hpp"

namespace troupe::load_test::report {

namespace {

constexpr size_t most_blocks = 64;
constexpr double seconds = 1e9;

nanoseconds block_width(nanoseconds measured) {
  constexpr std::array steps{0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0};
  for (auto step : steps)
    if (static_cast<double>(measured) <= step * seconds * most_blocks)
      return static_cast<nanoseconds>(step * seconds);
  return measured / static_cast<nanoseconds>(most_blocks) + 1;
}

/// A block while it is being filled: samples in the order of the blocks would need a sort, full
/// histograms for all blocks some megabytes, which is less than the samples.
struct open_block {
  histogram ttft, itl, tpot, e2e;
};

class cutter {
public:
  cutter(const run_results& run, const std::vector<objective>& objectives)
      : run_(run), objectives_(objectives),
        width_(block_width(std::max<nanoseconds>(run.end - run.begin, 1))) {
    auto last = run.end;
    for (auto& r : run.requests)
      if (r.measured)
        last = std::max(last, r.end);
    auto blocks_to = [&](nanoseconds t) {
      return static_cast<size_t>((std::max<nanoseconds>(t - run.begin, 1) + width_ - 1) / width_);
    };
    // A block that the end cuts short would show too low a rate.
    result_.within = static_cast<size_t>((run.end - run.begin) / width_);
    // An answer that came ages after the end must not cost memory: it joins the last block.
    auto count = std::min(blocks_to(last), blocks_to(run.end) + most_blocks);
    result_.block_s = static_cast<double>(width_) / seconds;
    result_.blocks.resize(count);
    open_.resize(count);
  }

  timeline cut() {
    for (auto& r : run_.requests) {
      add_rates(r);
      if (r.measured && has_latencies(r))
        add_latencies(r);
    }
    for (size_t i = 0; i < open_.size(); ++i) {
      auto& b = result_.blocks[i];
      b.ttft = sparse_histogram{open_[i].ttft};
      b.itl = sparse_histogram{open_[i].itl};
      b.tpot = sparse_histogram{open_[i].tpot};
      b.e2e = sparse_histogram{open_[i].e2e};
      for (auto x : {&b.active, &b.completed_spread, &b.good_spread})
        *x = std::round(*x * 1e4) / 1e4; // Shorter in files.
    }
    return std::move(result_);
  }

private:
  size_t at(nanoseconds t) const {
    auto i = std::max<nanoseconds>(t - run_.begin, 0) / width_;
    return std::min(static_cast<size_t>(i), result_.blocks.size() - 1);
  }

  bool inside(nanoseconds t) const {
    return t >= run_.begin && t <= run_.begin + width_ * static_cast<nanoseconds>(open_.size());
  }

  void add_latencies(const request_record& r) {
    auto& block = open_[at(r.scheduled)];
    if (r.ended == outcome::ok)
      block.e2e.record(r.end - r.scheduled);
    if (r.first_token == 0)
      return;
    block.ttft.record(r.first_token - r.scheduled);
    if (auto tpot = time_per_output_token(r))
      block.tpot.record(*tpot);
    auto t = r.first_token;
    for (auto gap : gaps_of(run_, r)) {
      t += gap;
      open_[at(t)].itl.record(gap);
    }
  }

  void add_rates(const request_record& r) {
    auto good = meets(run_, r, objectives_);
    if (inside(r.end)) {
      auto& block = result_.blocks[at(r.end)];
      if (r.ended == outcome::ok) {
        ++block.completed;
        block.good += good ? 1 : 0;
      } else if (r.ended != outcome::cancelled) {
        ++block.failed;
      }
    }
    for_each_arrival(run_, r, [this](nanoseconds t, uint64_t tokens) {
      if (inside(t))
        result_.blocks[at(t)].output_tokens += tokens;
    });
    add_time_in_flight(r, good);
  }

  void add_time_in_flight(const request_record& r, bool good) {
    auto sent = r.sent != 0 ? r.sent : r.scheduled;
    auto from = std::max(sent, run_.begin);
    if (r.end <= from)
      return;
    auto whole = static_cast<double>(r.end - sent);
    for (auto i = at(from); i <= at(r.end); ++i) {
      auto begin = run_.begin + width_ * static_cast<nanoseconds>(i);
      auto shared = std::min(r.end, begin + width_) - std::max(from, begin);
      if (shared <= 0)
        continue;
      auto& block = result_.blocks[i];
      block.active += static_cast<double>(shared) / static_cast<double>(width_);
      if (r.ended == outcome::ok)
        block.completed_spread += static_cast<double>(shared) / whole;
      if (good)
        block.good_spread += static_cast<double>(shared) / whole;
    }
  }

  const run_results& run_;
  const std::vector<objective>& objectives_;
  nanoseconds width_;
  timeline result_;
  std::vector<open_block> open_;
};

} // namespace

timeline make_timeline(const run_results& run, const std::vector<objective>& objectives) {
  return cutter{run, objectives}.cut();
}

bool meets(const run_results& run, const request_record& r,
           const std::vector<objective>& objectives) {
  if (r.ended != outcome::ok)
    return false;
  std::vector<nanoseconds> gaps;
  for (auto& goal : objectives) {
    switch (goal.what) {
    case objective::latency::ttft:
      if (r.first_token == 0 || r.first_token - r.scheduled > goal.at_most)
        return false;
      break;
    case objective::latency::e2e:
      if (r.end - r.scheduled > goal.at_most)
        return false;
      break;
    case objective::latency::tpot:
      if (time_per_output_token(r).value_or(0) > goal.at_most)
        return false;
      break;
    case objective::latency::itl: {
      auto own = gaps_of(run, r);
      gaps.assign(own.begin(), own.end());
      if (!gaps.empty() && percentile(gaps, goal.percentile) > static_cast<double>(goal.at_most))
        return false;
      break;
    }
    }
  }
  return true;
}

} // namespace troupe::load_test::report
