#include "troupe/examples/load_test/report/statistics.hpp"

#include <chrono>
#include <numeric>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/report/figures.hpp"

#include "runs.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

std::vector<objective> goals(std::string_view text) {
  auto x = parse_objectives(text);
  REQUIRE(x);
  return *x;
}

bool says(const std::vector<remark>& all, remark::grade how, const std::string& what) {
  return std::any_of(all.begin(), all.end(), [&](auto& r) {
    return r.how == how && r.text.find(what) != std::string::npos;
  });
}

} // namespace

TEST_CASE("percentiles interpolate between ranks as numpy does", "[load_test][statistics]") {
  // numpy.percentile([15, 20, 35, 40, 50], [0, 25, 40, 50, 90, 99, 100])
  std::vector<nanoseconds> x{50, 15, 40, 20, 35};
  CHECK(percentile(x, 0) == Approx(15));
  CHECK(percentile(x, 25) == Approx(20));
  CHECK(percentile(x, 40) == Approx(29));
  CHECK(percentile(x, 50) == Approx(35));
  CHECK(percentile(x, 90) == Approx(46));
  CHECK(percentile(x, 99) == Approx(49.6));
  CHECK(percentile(x, 100) == Approx(50));
  std::vector<nanoseconds> one{7};
  CHECK(percentile(one, 99.9) == Approx(7));
}

TEST_CASE("a distribution's percentiles are those of the sorted samples",
          "[load_test][statistics]") {
  std::mt19937_64 random{3};
  for (size_t n : {1U, 2U, 3U, 10U, 99U, 100U, 101U, 1000U, 5003U}) {
    std::vector<nanoseconds> x(n);
    for (auto& v : x)
      v = static_cast<nanoseconds>(random() % 50) * 1_ms; // with ties
    auto sorted = x;
    std::sort(sorted.begin(), sorted.end());
    auto expected = [&](double p) {
      auto h = p / 100 * static_cast<double>(n - 1);
      auto k = static_cast<size_t>(h);
      auto next = std::min(k + 1, n - 1);
      return (static_cast<double>(sorted[k]) +
              (h - static_cast<double>(k)) * static_cast<double>(sorted[next] - sorted[k])) /
             1e6;
    };
    auto d = distribution_of(x);
    CHECK(d.count == n);
    CHECK(d.p50 == Approx(expected(50)));
    CHECK(d.p90 == Approx(expected(90)));
    CHECK(d.p95 == Approx(expected(95)));
    CHECK(d.p99 == Approx(expected(99)));
    CHECK(d.p99_9 == Approx(expected(99.9)));
    CHECK(d.max == Approx(expected(100)));
  }
  std::vector<nanoseconds> none;
  CHECK(distribution_of(none).count == 0);
}

TEST_CASE("failures count as infinitely slow", "[load_test][statistics]") {
  std::vector<nanoseconds> x{10, 20, 30, 40};
  CHECK(percentile_with_failures(x, 0, 50).value() == Approx(25));
  // [10, 20, 30, 40, inf]
  CHECK(percentile_with_failures(x, 1, 50).value() == Approx(30));
  CHECK(percentile_with_failures(x, 1, 75).value() == Approx(40));
  CHECK(!percentile_with_failures(x, 1, 76));
  CHECK(!percentile_with_failures(x, 1, 100));
  std::vector<nanoseconds> one{10}, none;
  CHECK(percentile_with_failures(one, 1, 0).value() == Approx(10));
  CHECK(!percentile_with_failures(one, 1, 50));
  CHECK(!percentile_with_failures(none, 0, 50));
}

TEST_CASE("latencies count from the scheduled send", "[load_test][statistics]") {
  run_results run;
  run.end = 10_s;
  auto& r = add_stream(run, 1_s, 200_ms, {10_ms, 30_ms, 20_ms});
  r.sent = r.scheduled + 150_ms; // The server stalled us, so most of it is not ours to leave out.
  auto s = summarize(run, {});
  CHECK(s.ttft_ms.max == Approx(200));
  CHECK(s.e2e_ms.max == Approx(260));
  CHECK(s.tpot_ms.max == Approx(20));
  CHECK(s.itl_ms.count == 3);
  CHECK(s.itl_ms.p50 == Approx(20));
  CHECK(s.itl_ms.max == Approx(30));
  CHECK(s.send_lateness_ms.max == Approx(150));
  CHECK(s.prompt_tokens == 10);
  CHECK(s.output_tokens == 4);
  CHECK(s.output_tokens_per_s == Approx(0.4));
  CHECK(s.requests_per_s == Approx(0.1));
}

TEST_CASE("what is not measured gives no latency", "[load_test][statistics]") {
  run_results run;
  run.begin = 5_s;
  run.end = 10_s;
  add_stream(run, 1_s, 900_ms, {900_ms}).measured = false;
  add_stream(run, 6_s, 100_ms, {10_ms});
  auto s = summarize(run, {});
  CHECK(s.requests == 1);
  CHECK(s.ttft_ms.count == 1);
  CHECK(s.ttft_ms.max == Approx(100));
  CHECK(s.itl_ms.max == Approx(10));
  CHECK(s.output_tokens == 2);
}

TEST_CASE("rates count what happened within the measured time", "[load_test][statistics]") {
  run_results run;
  run.begin = 10_s;
  run.end = 20_s;
  // Began while warming up: one of its tokens came before the begin, two within, and its end.
  add_stream(run, 8_s, 1_s, {2_s, 1_s}).measured = false;
  // Goes on after the end: its first two tokens count, its end does not.
  add_stream(run, 18_s, 1_s, {1_s, 1_s, 1_s});
  auto s = summarize(run, {});
  CHECK(s.output_tokens_per_s == Approx(0.4));
  CHECK(s.requests_per_s == Approx(0.1));
  CHECK(s.completed == 1);
}

TEST_CASE("failed requests have no latency and stand by their kind", "[load_test][statistics]") {
  run_results run;
  run.end = 10_s;
  add_stream(run, 1_s, 100_ms, {10_ms});
  add_failure(run, 2_s, outcome::refused, 429);
  add_failure(run, 3_s, outcome::timed_out);
  add_stream(run, 4_s, 300_ms, {10_ms}).ended = outcome::cancelled;
  add_stream(run, 5_s, 5_ms, {1_ms}).ended = outcome::stream_error;
  auto s = summarize(run, {});
  CHECK(s.requests == 5);
  CHECK(s.completed == 1);
  CHECK(s.failed == 3);
  CHECK(s.by_outcome[static_cast<size_t>(outcome::refused)] == 1);
  CHECK(s.by_outcome[static_cast<size_t>(outcome::stream_error)] == 1);
  CHECK(s.e2e_ms.count == 1);
  CHECK(s.ttft_ms.count == 2); // The one that we cancelled has a first token.
  CHECK(s.itl_ms.count == 2);
  CHECK(s.send_lateness_ms.count == 5);
  CHECK(says(s.remarks, remark::grade::warning, "3 of 5 requests failed"));
}

TEST_CASE("goodput is what keeps every objective", "[load_test][statistics]") {
  run_results run;
  run.end = 10_s;
  add_stream(run, 1_s, 100_ms, {10_ms, 10_ms});
  add_stream(run, 2_s, 600_ms, {10_ms, 10_ms});  // too slow a first token
  add_stream(run, 3_s, 100_ms, {10_ms, 100_ms}); // too long a pause
  add_failure(run, 4_s, outcome::http_error, 500);
  auto s = summarize(run, goals("ttft_p50=500ms,itl_max=60ms"));
  CHECK(s.requests_per_s == Approx(0.3));
  CHECK(s.goodput_requests_per_s == Approx(0.1));
  REQUIRE(s.objectives.size() == 2);
  // [100, 100, 600, inf] ms
  CHECK(s.objectives[0].measured_ms.value() == Approx(350));
  CHECK(s.objectives[0].met);
  CHECK(!s.objectives[1].met);
  CHECK(!objectives_met(s));
  CHECK(summarize(run, {}).goodput_requests_per_s == Approx(0.3));
}

TEST_CASE("an objective that nothing was measured for is missed", "[load_test][statistics]") {
  run_results run;
  run.end = 10_s;
  add_failure(run, 4_s, outcome::connect_failed);
  auto s = summarize(run, goals("ttft_p99=1s,itl_p50=1s"));
  CHECK(!s.objectives[0].met);
  CHECK(s.objectives[0].why == "1 of 1 requests failed, which counts as infinitely slow");
  CHECK(!s.objectives[1].met);
  auto empty = summarize(run_results{}, goals("e2e_p99=1s"));
  CHECK(!empty.objectives[0].met);
  CHECK(empty.objectives[0].why == "nothing was measured");
  CHECK(says(empty.remarks, remark::grade::warning, "No request was measured"));
}

TEST_CASE("more failures than a percentile leaves room for miss it", "[load_test][statistics]") {
  run_results run;
  run.end = 100_s;
  for (nanoseconds i = 0; i < 97; ++i)
    add_stream(run, i * 1_s, 100_ms, {10_ms});
  for (nanoseconds i = 97; i < 100; ++i)
    add_failure(run, i * 1_s, outcome::refused, 503);
  auto s = summarize(run, goals("ttft_p95=200ms,ttft_p99=200ms,itl_p95=20ms,itl_p99=20ms"));
  CHECK(s.objectives[0].met);
  CHECK(!s.objectives[1].met);
  CHECK(!s.objectives[1].measured_ms);
  CHECK(s.objectives[2].met);
  CHECK(!s.objectives[3].met);
  CHECK(s.objectives[3].measured_ms.value() == Approx(10));
}

TEST_CASE("a late or busy generator spoils the result", "[load_test][statistics]") {
  auto run = make_run({.seconds = 10, .rate = 50, .ttft_ms = 20});
  run.health = {2, 10, 1};
  CHECK(!spoilt(summarize(run, {}).remarks));
  auto late = run;
  for (auto& r : late.requests)
    r.sent = r.scheduled + 4_ms;
  CHECK(says(summarize(late, {}).remarks, remark::grade::spoilt, "sent late: 4 ms"));
  // The same lateness is nothing beside a first token after seconds.
  for (auto& r : late.requests) {
    r.first_token += 2_s;
    r.end += 2_s;
  }
  CHECK(!spoilt(summarize(late, {}).remarks));
  run.health = {18.6, 10, 2};
  auto s = summarize(run, {});
  CHECK(s.worker_cpu_share == Approx(0.93));
  CHECK(says(s.remarks, remark::grade::spoilt, "2 workers were 93 % busy"));
}

TEST_CASE("a rate that the server cannot follow is told", "[load_test][statistics]") {
  auto run = make_run({.seconds = 10, .rate = 50});
  CHECK(!says(summarize(run, {}).remarks, remark::grade::warning, "keep up"));
  run.what.rate = 100;
  CHECK(says(summarize(run, {}).remarks, remark::grade::warning, "did not keep up"));
}

TEST_CASE("the blocks hold every sample and the rates", "[load_test][timeline]") {
  auto run = make_run({.seconds = 20, .rate = 30});
  auto s = summarize(run, {});
  auto& t = s.over_time;
  CHECK(t.block_s == Approx(0.5));
  CHECK(t.within == 40);
  CHECK(whole(t, &time_block::ttft).count() == s.ttft_ms.count);
  CHECK(whole(t, &time_block::itl).count() == s.itl_ms.count);
  CHECK(whole(t, &time_block::e2e).count() == s.e2e_ms.count);
  CHECK(whole(t, &time_block::tpot).count() == s.tpot_ms.count);
  // One bin is 3.1 % wide.
  CHECK(whole(t, &time_block::ttft).percentile(99) / 1e6 == Approx(s.ttft_ms.p99).epsilon(0.035));
  CHECK(whole(t, &time_block::itl).percentile(50) / 1e6 == Approx(s.itl_ms.p50).epsilon(0.035));
  double tokens = 0, completed = 0, active = 0;
  for (size_t i = 0; i < t.within; ++i) {
    tokens += static_cast<double>(t.blocks[i].output_tokens);
    completed += static_cast<double>(t.blocks[i].completed);
    active += t.blocks[i].active / static_cast<double>(t.within);
  }
  CHECK(tokens / 20 == Approx(s.output_tokens_per_s));
  CHECK(completed / 20 == Approx(s.requests_per_s));
  // Little's law: requests in flight = rate * time that each is there.
  CHECK(active == Approx(s.requests_per_s * s.e2e_ms.mean / 1000).epsilon(0.02));
}

TEST_CASE("a stall shows in the blocks where it happened", "[load_test][timeline]") {
  run_results run;
  run.end = 20_s;
  for (nanoseconds i = 0; i < 200; ++i)
    add_stream(run, i * 100_ms, i == 100 ? 2100_ms : 50_ms, {10_ms});
  auto t = summarize(run, {}).over_time;
  size_t slow = t.blocks.size();
  for (size_t i = 0; i < t.blocks.size(); ++i) {
    histogram h;
    t.blocks[i].ttft.add_to(h);
    if (h.percentile(100) > 1e9) {
      CHECK(slow == t.blocks.size());
      slow = i;
    }
  }
  CHECK(slow == static_cast<size_t>(10 / t.block_s));
}

TEST_CASE("a record that points outside of the gaps has none", "[load_test][statistics]") {
  run_results run;
  run.end = 10_s;
  auto& r = add_stream(run, 1_s, 100_ms, {10_ms});
  r.gap_count = 7;
  CHECK(summarize(run, {}).itl_ms.count == 0);
  r.first_gap = ~uint64_t{0};
  CHECK(summarize(run, {}).itl_ms.count == 0);
}

TEST_CASE("an answer ages after the end costs no memory", "[load_test][timeline]") {
  run_results run;
  run.end = 10_s;
  add_stream(run, 9_s, 1_s, {100000_s});
  auto t = summarize(run, {}).over_time;
  CHECK(t.blocks.size() <= 128);
  CHECK(whole(t, &time_block::itl).count() == 1);
}

TEST_CASE("bins are narrow and meet end to end", "[load_test][histogram]") {
  for (size_t i = 1; i + 1 < histogram_bins::count; ++i) {
    auto low = histogram_bins::lower(i), high = histogram_bins::lower(i + 1);
    CHECK(low < high);
    CHECK(static_cast<double>(high - low) <= 0.0313 * static_cast<double>(low));
    CHECK(histogram_bins::of(low) == i);
    CHECK(histogram_bins::of(high - 1) == i);
  }
  CHECK(histogram_bins::of(0) == 0);
  CHECK(histogram_bins::of(-5) == 0);
  CHECK(histogram_bins::of(INT64_MAX) == histogram_bins::count - 1);
}

TEST_CASE("merged histograms are the histogram of everything", "[load_test][histogram]") {
  std::mt19937_64 random{9};
  histogram a, b, both;
  std::vector<nanoseconds> all;
  for (int i = 0; i < 20'000; ++i) {
    auto x = static_cast<nanoseconds>(std::exp(std::normal_distribution<double>{16, 1}(random)));
    (i % 3 ? a : b).record(x);
    both.record(x);
    all.push_back(x);
  }
  a.merge(b);
  CHECK(a.count() == both.count());
  for (double p : {1.0, 50.0, 90.0, 99.0, 99.9}) {
    CHECK(a.percentile(p) == both.percentile(p));
    CHECK(a.percentile(p) == Approx(percentile(all, p)).epsilon(0.032));
  }
  CHECK(histogram{}.percentile(50) == 0);
}
