#include "troupe/examples/load_test/report/confidence.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include <boost/math/distributions/students_t.hpp>

namespace troupe::load_test::report {

namespace {

constexpr size_t replicates = 300;
constexpr double fewest_blocks = 8;
constexpr double fewest_beyond = 10;
constexpr uint64_t seed = 20'177;

double t_quantile(double level, double degrees_of_freedom) {
  boost::math::students_t t{std::max(degrees_of_freedom, 1.0)};
  return boost::math::quantile(t, 0.5 + level / 2);
}

/// Integrated autocorrelation time: 1 for independent values. The sum stops at the first lag
/// without correlation; to stop where it drowns in noise would make short runs look too sure.
double autocorrelation_time(const std::vector<double>& x) {
  auto n = x.size();
  if (n < 4)
    return 1;
  double mean = 0;
  for (auto v : x)
    mean += v / static_cast<double>(n);
  auto covariance = [&](size_t lag) {
    double sum = 0;
    for (size_t i = lag; i < n; ++i)
      sum += (x[i] - mean) * (x[i - lag] - mean);
    return sum;
  };
  auto variance = covariance(0);
  if (variance <= 0)
    return 1;
  double time = 1;
  for (size_t lag = 1; lag < n / 2; ++lag) {
    auto correlation = covariance(lag) / variance;
    if (correlation <= 0)
      break;
    time += 2 * correlation;
  }
  return time;
}

/// The blocks of some runs and what a figure is when block i counts `weights[i]` times.
class block_pool {
public:
  explicit block_pool(std::span<const summary> runs) {
    for (auto& run : runs) {
      auto& t = run.over_time;
      for (size_t i = 0; i < t.blocks.size(); ++i) {
        blocks_.push_back(&t.blocks[i]);
        seconds_.push_back(i < t.within ? t.block_s : 0);
      }
    }
  }

  size_t size() const { return blocks_.size(); }

  /// All figures, in the order of `figures()`; 0 where there is none.
  std::vector<double> figures_with(const std::vector<uint32_t>& weights) const {
    std::vector<double> all;
    all.reserve(figures().size());
    double seconds = 0;
    for (size_t i = 0; i < blocks_.size(); ++i)
      seconds += weights[i] * seconds_[i];
    for (auto& f : figures())
      if (f.is_rate())
        all.push_back(seconds > 0 ? rate_sum(f, weights) / seconds : 0);
    for (auto& g : latency_groups()) {
      if (!g.sketch) {
        all.resize(all.size() + distribution_parts().size());
        continue;
      }
      histogram sum;
      for (size_t i = 0; i < blocks_.size(); ++i)
        if (weights[i] > 0)
          (blocks_[i]->*g.sketch).add_to(sum, weights[i]);
      for (auto& part : distribution_parts())
        all.push_back(part.percentile < 0 ? mean_of(sum) : sum.percentile(part.percentile));
    }
    return all;
  }

  /// What each block does to a figure: its sum over blocks is zero, and the figure moves with it.
  std::vector<double> influence(const figure& f, double value) const {
    std::vector<double> all;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (f.is_rate()) {
        if (seconds_[i] > 0)
          all.push_back(count_in(f, *blocks_[i]) - value * seconds_[i]);
        continue;
      }
      double sum = 0;
      auto limit = histogram_bins::of(static_cast<nanoseconds>(value));
      for (auto& e : (blocks_[i]->*sketch_of(f)).entries) {
        auto times = static_cast<double>(e.times);
        if (f.percentile < 0)
          sum += times * (middle(e.bin) - value);
        else
          sum += times * ((e.bin > limit ? 1.0 : 0.0) - (1 - f.percentile / 100));
      }
      all.push_back(sum);
    }
    return all;
  }

  /// Blocks that have something to say about a figure.
  double useful_blocks(const figure& f) const {
    size_t n = 0;
    for (size_t i = 0; i < blocks_.size(); ++i)
      n += f.is_rate() ? seconds_[i] > 0 : !(blocks_[i]->*sketch_of(f)).entries.empty();
    return static_cast<double>(n);
  }

  double samples(const figure& f) const {
    double n = 0;
    for (auto* b : blocks_)
      n += f.is_rate() ? count_in(f, *b) : static_cast<double>((b->*sketch_of(f)).count());
    return n;
  }

private:
  static double middle(size_t bin) {
    return static_cast<double>(histogram_bins::lower(bin) + histogram_bins::lower(bin + 1)) / 2;
  }

  static double mean_of(const histogram& h) {
    double sum = 0;
    for (size_t i = 0; i + 1 < histogram_bins::count; ++i)
      if (h.at(i) > 0)
        sum += static_cast<double>(h.at(i)) * middle(i);
    return h.count() > 0 ? sum / static_cast<double>(h.count()) : 0;
  }

  static sparse_histogram time_block::*sketch_of(const figure& f) {
    for (auto& g : latency_groups())
      if (g.name == f.group)
        return g.sketch;
    return nullptr;
  }

  static double count_in(const figure& f, const time_block& b) {
    if (f.rate == &summary::output_tokens_per_s)
      return static_cast<double>(b.output_tokens);
    return f.rate == &summary::requests_per_s ? b.completed_spread : b.good_spread;
  }

  double rate_sum(const figure& f, const std::vector<uint32_t>& weights) const {
    double sum = 0;
    for (size_t i = 0; i < blocks_.size(); ++i)
      if (seconds_[i] > 0)
        sum += weights[i] * count_in(f, *blocks_[i]);
    return sum;
  }

  std::vector<const time_block*> blocks_;
  std::vector<double> seconds_; ///< 0 = no rate is taken from this block.
};

/// Where the figures of the same latency begin, with their mean; a rate stands for itself.
size_t first_of_group(size_t i) {
  while (i > 0 && figures()[i - 1].group == figures()[i].group)
    --i;
  return i;
}

/// Whether a figure can be judged from blocks at all.
bool is_judged(const figure& f, const block_pool& pool) {
  if (f.percentile == 100 || f.latencies == &summary::send_lateness_ms)
    return false;
  auto samples = pool.samples(f);
  return f.percentile < 0 ? samples >= fewest_beyond
                          : samples * (1 - f.percentile / 100) >= fewest_beyond;
}

double log_deviation(const std::vector<std::vector<double>>& draws, size_t which) {
  double sum = 0, squares = 0;
  for (auto& d : draws) {
    if (d[which] <= 0)
      return -1;
    auto x = std::log(d[which]);
    sum += x;
    squares += x * x;
  }
  auto n = static_cast<double>(draws.size());
  return std::sqrt(std::max(0.0, (squares - sum * sum / n) / (n - 1)));
}

} // namespace

std::optional<interval> student_interval(std::span<const double> values, double level) {
  auto n = static_cast<double>(values.size());
  if (values.size() < 2)
    return std::nullopt;
  double mean = 0, squares = 0;
  for (auto x : values)
    mean += x / n;
  for (auto x : values)
    squares += (x - mean) * (x - mean);
  auto half = t_quantile(level, n - 1) * std::sqrt(squares / (n - 1) / n);
  return interval{mean - half, mean + half};
}

std::vector<std::optional<log_estimate>> estimate_from_blocks(std::span<const summary> runs) {
  std::vector<std::optional<log_estimate>> all(figures().size());
  block_pool pool{runs};
  if (static_cast<double>(pool.size()) < fewest_blocks)
    return all;
  auto as_measured = pool.figures_with(std::vector<uint32_t>(pool.size(), 1));
  std::mt19937_64 random{seed};
  std::uniform_int_distribution<size_t> pick{0, pool.size() - 1};
  std::vector<std::vector<double>> draws;
  for (size_t i = 0; i < replicates; ++i) {
    std::vector<uint32_t> weights(pool.size());
    for (size_t k = 0; k < pool.size(); ++k)
      ++weights[pick(random)];
    draws.push_back(pool.figures_with(weights));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    auto& f = figures()[i];
    if (as_measured[i] <= 0 || !is_judged(f, pool))
      continue;
    auto mean_at = first_of_group(i);
    auto* mean = &figures()[mean_at];
    auto deviation = log_deviation(draws, i);
    // The blocks beyond a high percentile are too few to show how long the weather lasts; the mean
    // of the same latency does.
    auto correlated = std::max(autocorrelation_time(pool.influence(f, as_measured[i])),
                               autocorrelation_time(pool.influence(*mean, as_measured[mean_at])));
    auto independent = pool.useful_blocks(f) / correlated;
    if (deviation >= 0 && independent >= fewest_blocks)
      all[i] = log_estimate{std::log(as_measured[i]), deviation * std::sqrt(correlated),
                            independent - 1};
  }
  return all;
}

std::vector<std::optional<interval>> confidence_intervals(const load_point& point) {
  std::vector<std::optional<interval>> all(figures().size());
  if (point.repeats.size() < 2) {
    auto estimates = estimate_from_blocks(point.repeats);
    for (size_t i = 0; i < all.size(); ++i) {
      if (!estimates[i])
        continue;
      // Around the exact figure: the sketch's is off by up to half a bin.
      auto value = figures()[i].of(point.repeats.front());
      auto factor = std::exp(t_quantile(0.95, estimates[i]->degrees_of_freedom) *
                             estimates[i]->standard_error);
      all[i] = interval{value / factor, value * factor};
    }
    return all;
  }
  for (size_t i = 0; i < all.size(); ++i) {
    auto& f = figures()[i];
    std::vector<double> values;
    for (auto& r : point.repeats)
      if (f.present(r))
        values.push_back(f.of(r));
    if (f.percentile != 100)
      all[i] = student_interval(values);
  }
  return all;
}

double student_p_value(double t, double degrees_of_freedom) {
  if (std::isnan(t))
    return 1;
  if (std::isinf(t))
    return 0;
  boost::math::students_t distribution{std::max(degrees_of_freedom, 1.0)};
  return 2 * boost::math::cdf(boost::math::complement(distribution, std::fabs(t)));
}

} // namespace troupe::load_test::report
