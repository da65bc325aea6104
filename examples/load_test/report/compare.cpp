#include "troupe/examples/load_test/report/compare.hpp"

#include <algorithm>
#include <cmath>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/examples/load_test/report/format.hpp"

namespace troupe::load_test::report {

namespace {

using verdict = figure_comparison::verdict;

constexpr double level = 0.05;
constexpr double smallest_within_runs = 0.02;
/// Repeats that agree to the last digit still stand for a server that varies by this much.
constexpr double least_deviation = 0.001;

/// A figure with its p-value before the adjustment.
struct tested {
  figure_comparison result;
  bool big_enough = true;
};

/// Welch's t on two means with their standard errors; degrees of freedom after Satterthwaite.
void test_means(const log_estimate& a, const log_estimate& b, tested& out) {
  auto va = a.standard_error * a.standard_error, vb = b.standard_error * b.standard_error;
  auto error = std::sqrt(va + vb);
  auto difference = b.log_value - a.log_value;
  if (error <= 0) {
    out.result.p_value = difference == 0 ? 1 : 0;
    return;
  }
  auto freedom =
      (va + vb) * (va + vb) / (va * va / a.degrees_of_freedom + vb * vb / b.degrees_of_freedom);
  out.result.p_value = student_p_value(difference / error, freedom);
  // A p-value of 5 % is the border of the interval: found by halving, as no quantile is at hand
  // here.
  double low = 0, high = 1e4;
  for (int i = 0; i < 60; ++i)
    (student_p_value((low + high) / 2, freedom) > level ? low : high) = (low + high) / 2;
  out.result.ratio_interval =
      interval{std::exp(difference - low * error), std::exp(difference + low * error)};
}

std::vector<double> values_of(const load_point& point, const figure& f) {
  std::vector<double> all;
  for (auto& r : point.repeats)
    if (f.present(r))
      all.push_back(f.of(r));
  return all;
}

std::optional<log_estimate> estimate_from_repeats(const std::vector<double>& values) {
  if (values.size() < 2 || std::any_of(values.begin(), values.end(), [](auto x) { return x <= 0; }))
    return std::nullopt;
  auto n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (auto x : values)
    mean += std::log(x) / n;
  for (auto x : values)
    squares += (std::log(x) - mean) * (std::log(x) - mean);
  auto deviation = std::max(std::sqrt(squares / (n - 1)), least_deviation);
  return log_estimate{mean, deviation / std::sqrt(n), n - 1};
}

/// A rate of zero has no logarithm. Had both sides the same rate, all n events would fall on one of
/// them with this chance.
void test_against_zero(const summary& a, const summary& b, tested& out) {
  auto& nonzero = out.result.a > 0 ? a : b;
  auto n = std::max(out.result.a, out.result.b) * nonzero.measured_s;
  auto share = nonzero.measured_s / std::max(a.measured_s + b.measured_s, 1e-9);
  out.result.p_value = std::min(1.0, 2 * std::pow(share, n));
}

/// What is missing for a judgement from blocks.
std::string why_not_from_blocks(const figure& f) {
  return f.percentile == 100 ? "a maximum needs repeats" : "too few samples; run longer or repeat";
}

class point_comparer {
public:
  point_comparer(const load_point& a, const load_point& b)
      : a_(a), b_(b), all_a_(combined(a)), all_b_(combined(b)),
        by_repeats_(a.repeats.size() > 1 && b.repeats.size() > 1) {
    if (!by_repeats_) {
      from_blocks_a_ = estimate_from_blocks(a.repeats);
      from_blocks_b_ = estimate_from_blocks(b.repeats);
    }
  }

  bool by_repeats() const { return by_repeats_; }

  std::vector<tested> run() const {
    std::vector<tested> all;
    for (size_t i = 0; i < figures().size(); ++i) {
      auto& f = figures()[i];
      // The generator's own lateness is no property of the server.
      if (f.latencies != &summary::send_lateness_ms && f.present(all_a_) && f.present(all_b_))
        all.push_back(compare_figure(i));
    }
    all.push_back(compare_failures());
    return all;
  }

private:
  tested compare_figure(size_t i) const {
    auto& f = figures()[i];
    tested t;
    auto& r = t.result;
    r.name = f.name();
    r.a = f.of(all_a_);
    r.b = f.of(all_b_);
    if (r.a > 0)
      r.ratio = r.b / r.a;
    r.b_is_better = f.lower_is_better() ? r.b < r.a : r.b > r.a;
    if (f.is_rate() && (r.a == 0) != (r.b == 0)) {
      test_against_zero(all_a_, all_b_, t);
      return t;
    }
    auto a = by_repeats_ ? estimate_from_repeats(values_of(a_, f)) : from_blocks_a_[i];
    auto b = by_repeats_ ? estimate_from_repeats(values_of(b_, f)) : from_blocks_b_[i];
    if (!by_repeats_ && a && b) {
      // The exact figures; the sketches' are off by up to half a bin.
      a->log_value = std::log(r.a);
      b->log_value = std::log(r.b);
    }
    if (a && b)
      test_means(*a, *b, t);
    else
      r.why = by_repeats_ ? "not every repeat has a value above 0" : why_not_from_blocks(f);
    if (!by_repeats_ && r.ratio)
      t.big_enough = std::fabs(std::log(*r.ratio)) >= std::log1p(smallest_within_runs);
    return t;
  }

  static double share(const summary& s) {
    return s.requests > 0 ? static_cast<double>(s.failed) / static_cast<double>(s.requests) : 0;
  }

  /// Failures come in bursts, so their share must differ by a hundredth too.
  tested compare_failures() const {
    tested t;
    auto& r = t.result;
    r.name = "failed_share";
    r.a = share(all_a_);
    r.b = share(all_b_);
    if (r.a > 0)
      r.ratio = r.b / r.a;
    r.b_is_better = r.b < r.a;
    t.big_enough = std::fabs(r.a - r.b) >= 0.01;
    auto na = static_cast<double>(all_a_.requests), nb = static_cast<double>(all_b_.requests);
    if (na == 0 || nb == 0) {
      r.why = "no requests";
      return t;
    }
    auto pooled = static_cast<double>(all_a_.failed + all_b_.failed) / (na + nb);
    auto error = std::sqrt(pooled * (1 - pooled) * (1 / na + 1 / nb));
    r.p_value = error > 0 ? student_p_value((r.b - r.a) / error, na + nb - 2) : 1;
    return t;
  }

  const load_point& a_;
  const load_point& b_;
  summary all_a_, all_b_;
  bool by_repeats_;
  std::vector<std::optional<log_estimate>> from_blocks_a_, from_blocks_b_;
};

/// Holm's step-down adjustment over everything that was tested, then the verdicts.
void adjust(std::vector<tested*> all) {
  std::erase_if(all, [](auto* t) { return !t->result.p_value; });
  std::sort(all.begin(), all.end(),
            [](auto* x, auto* y) { return *x->result.p_value < *y->result.p_value; });
  double highest = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    auto& r = all[i]->result;
    highest = std::max(highest, std::min(1.0, *r.p_value * static_cast<double>(all.size() - i)));
    r.p_value = highest;
    auto is_real = highest < level && all[i]->big_enough;
    r.how = is_real ? verdict::real : verdict::not_shown;
  }
}

std::string values_text(const std::vector<double>& loads) {
  std::string text;
  for (auto x : loads)
    text += (text.empty() ? "" : ", ") + format_number(x);
  return text;
}

std::string load_text(const test_report& r, const load_point& p) {
  return r.is_sweep() ? r.swept + " " + format_number(load_of(p, r.swept))
                      : p.repeats.front().what.load;
}

using matched_points = std::vector<std::pair<const load_point*, const load_point*>>;

caf::expected<matched_points> match(const test_report& a, const test_report& b) {
  matched_points all;
  if (a.points.size() == 1 && b.points.size() == 1) {
    all.emplace_back(&a.points.front(), &b.points.front());
    return all;
  }
  auto swept = a.is_sweep() ? a.swept : b.swept;
  std::vector<double> loads_a, loads_b;
  for (auto& p : a.points)
    loads_a.push_back(load_of(p, swept));
  for (auto& p : b.points)
    loads_b.push_back(load_of(p, swept));
  for (size_t i = 0; i < loads_a.size(); ++i)
    for (size_t k = 0; k < loads_b.size(); ++k)
      if (loads_a[i] == loads_b[k])
        all.emplace_back(&a.points[i], &b.points[k]);
  if (all.empty() || (a.is_sweep() && b.is_sweep() && a.swept != b.swept))
    return caf::make_error(ec::invalid_request, "the two have no load in common: A has " + a.swept +
                                                    " " + values_text(loads_a) + ", B has " +
                                                    b.swept + " " + values_text(loads_b) +
                                                    "; sweep both over the same loads");
  return all;
}

void compare_settings(const run_description& a, const run_description& b, comparison& c) {
  auto add = [&](const std::string& name, const std::string& x, const std::string& y) {
    if (x != y)
      c.settings.push_back({name, x, y});
  };
  add("url", a.url, b.url);
  add("dialect", a.dialect, b.dialect);
  add("model", a.model, b.model);
  add("load", a.load, b.load);
  add("version", a.version, b.version);
  auto value_in = [](const run_description& what, const std::string& name) -> std::string {
    for (auto& [n, v] : what.settings)
      if (n == name)
        return v;
    return "-";
  };
  for (auto& [name, value] : a.settings)
    add(name, value, value_in(b, name));
  for (auto& [name, value] : b.settings)
    if (value_in(a, name) == "-")
      add(name, "-", value);
}

void add_remarks(const test_report& a, const test_report& b, comparison& c) {
  auto any_spoilt = [](const test_report& r) {
    for (auto& p : r.points)
      for (auto& s : p.repeats)
        if (spoilt(s.remarks))
          return true;
    return false;
  };
  if (any_spoilt(a))
    c.remarks.emplace_back("The load generator spoilt figures of A; see its own report.");
  if (any_spoilt(b))
    c.remarks.emplace_back("The load generator spoilt figures of B; see its own report.");
  if (std::any_of(c.points.begin(), c.points.end(), [](auto& p) { return !p.by_repeats; }))
    c.remarks.emplace_back(
        "With a single run on a side, what changes from run to run cannot be seen: "
        "a difference called real may be that. Repeat each test 5 times to know.");
}

} // namespace

caf::expected<comparison> compare(const test_report& a, const test_report& b) {
  auto pairs = match(a, b);
  if (!pairs)
    return pairs.error();
  comparison c;
  std::vector<std::vector<tested>> by_point;
  for (auto& [pa, pb] : *pairs) {
    point_comparer comparer{*pa, *pb};
    c.points.push_back({load_text(a, *pa), comparer.by_repeats(), {}});
    by_point.push_back(comparer.run());
  }
  std::vector<tested*> all;
  for (auto& point : by_point)
    for (auto& t : point)
      all.push_back(&t);
  adjust(std::move(all));
  for (size_t i = 0; i < by_point.size(); ++i)
    for (auto& t : by_point[i])
      c.points[i].figures.push_back(std::move(t.result));
  compare_settings(a.points.front().repeats.front().what, b.points.front().repeats.front().what, c);
  add_remarks(a, b, c);
  return c;
}

} // namespace troupe::load_test::report
