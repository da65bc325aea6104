#include <algorithm>
#include <cmath>
#include <vector>

#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/load/arrivals.hpp"
#include "troupe/examples/load_test/load/lengths.hpp"

using namespace troupe::load_test;

namespace {

std::vector<double> seconds_of(const arrival_settings& s, size_t count) {
  arrivals source{s};
  std::vector<double> out;
  for (size_t i = 0; i < count; ++i)
    out.push_back(static_cast<double>(source.next().value()) / 1e9);
  return out;
}

struct moments {
  double mean = 0, deviation = 0;
};

moments of_gaps(const std::vector<double>& times) {
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i)
    gaps.push_back(times[i] - times[i - 1]);
  moments out;
  for (auto g : gaps)
    out.mean += g / static_cast<double>(gaps.size());
  for (auto g : gaps)
    out.deviation += (g - out.mean) * (g - out.mean) / static_cast<double>(gaps.size());
  out.deviation = std::sqrt(out.deviation);
  return out;
}

arrival_settings settings(arrival_kind kind, double rate) {
  arrival_settings s;
  s.kind = kind;
  s.rate = rate;
  s.seed = 7;
  return s;
}

constexpr size_t many = 100'000;

} // namespace

TEST_CASE("constant arrivals stand at multiples of 1/rate, without drift", "[examples][load]") {
  auto times = seconds_of(settings(arrival_kind::constant, 3), many);
  CHECK(times[0] == 0);
  CHECK(times[1] == Approx(1.0 / 3).margin(1e-9));
  CHECK(times[99'999] == Approx(33'333).margin(1e-9));
}

TEST_CASE("poisson gaps are exponential", "[examples][load]") {
  auto times = seconds_of(settings(arrival_kind::poisson, 50), many);
  auto m = of_gaps(times);
  CHECK(m.mean == Approx(0.02).epsilon(0.01));
  CHECK(m.deviation == Approx(0.02).epsilon(0.02));
  // Kolmogorov-Smirnov against 1 - exp(-50 t), at the 1 % level.
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i)
    gaps.push_back(times[i] - times[i - 1]);
  std::sort(gaps.begin(), gaps.end());
  double worst = 0;
  auto n = static_cast<double>(gaps.size());
  for (size_t i = 0; i < gaps.size(); ++i)
    worst =
        std::max(worst, std::abs(1 - std::exp(-50 * gaps[i]) - (static_cast<double>(i) + 0.5) / n));
  CHECK(worst < 1.63 / std::sqrt(n));
}

TEST_CASE("gamma gaps keep the rate and vary as their shape says", "[examples][load]") {
  for (double shape : {0.1, 0.25, 1.0, 4.0}) {
    auto s = settings(arrival_kind::gamma, 20);
    s.burstiness = shape;
    auto m = of_gaps(seconds_of(s, many));
    INFO("shape " << shape);
    CHECK(m.mean == Approx(0.05).epsilon(0.03));
    CHECK(m.deviation / m.mean == Approx(1 / std::sqrt(shape)).epsilon(0.03));
  }
}

TEST_CASE("a ramp has as many arrivals as the integral of its rate", "[examples][load]") {
  auto s = settings(arrival_kind::ramp, 30);
  s.ramp_from = 10;
  s.ramp_time = 10'000'000'000;
  auto times = seconds_of(s, 1000);
  auto until = [&](double t) {
    return std::lower_bound(times.begin(), times.end(), t) - times.begin();
  };
  CHECK(std::abs(until(5) - (10 * 5 + 25)) <= 1); // 10 t + t^2
  CHECK(std::abs(until(10) - 200) <= 1);
  CHECK(std::abs(until(15) - (200 + 150)) <= 1); // then it stays at 30
  s.ramp_from = 30;
  s.rate = 30;
  CHECK(seconds_of(s, 100)[99] == Approx(99.0 / 30));
  s.ramp_from = 30;
  s.rate = 10;
  times = seconds_of(s, 300);
  CHECK(std::abs(until(10) - 200) <= 1);
}

TEST_CASE("a trace is replayed as recorded, at its speed, once", "[examples][load]") {
  arrival_settings s;
  s.kind = arrival_kind::trace;
  s.speed = 2;
  s.trace = std::make_shared<std::vector<trace_entry>>(
      std::vector<trace_entry>{{0, 0, 0}, {1'000'000'000, 0, 0}, {1'500'000'000, 0, 0}});
  arrivals source{s};
  CHECK(source.next() == 0);
  CHECK(source.next() == 500'000'000);
  CHECK(source.next() == 750'000'000);
  CHECK_FALSE(source.next().has_value());
  CHECK_FALSE(source.next().has_value());
}

TEST_CASE("a seed names the arrivals", "[examples][load]") {
  auto s = settings(arrival_kind::poisson, 5);
  auto first = seconds_of(s, 100);
  CHECK(first == seconds_of(s, 100));
  s.seed = 8;
  CHECK(first != seconds_of(s, 100));
}

TEST_CASE("lengths are fixed or drawn from what was asked for", "[examples][load]") {
  random_source random{3};
  CHECK(parse_lengths("64")->draw(random) == 64);
  CHECK(parse_lengths("0")->draw(random) == 0);
  auto check = [&](const char* text, double mean, double deviation) {
    auto d = parse_lengths(text);
    REQUIRE(d);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < many; ++i) {
      auto n = static_cast<double>(d->draw(random));
      REQUIRE(n >= 1);
      sum += n;
      squares += n * n;
    }
    auto m = sum / many;
    INFO(text);
    CHECK(m == Approx(mean).epsilon(0.02));
    CHECK(std::sqrt(squares / many - m * m) == Approx(deviation).epsilon(0.03));
  };
  check("uniform:16:128", 72, std::sqrt((113.0 * 113 - 1) / 12));
  check("normal:500:40", 500, 40);
  check("exponential:300", 300, 300);
}

TEST_CASE("a length that is none is refused with what is allowed", "[examples][load]") {
  for (const char* text :
       {"", "x", "-1", "1.5", "uniform:5", "uniform:9:3", "uniform:0:3", "normal:1", "normal:1:2:3",
        "exponential:", "64:", "1e99", "nan", "inf"}) {
    auto d = parse_lengths(text);
    INFO(text);
    REQUIRE_FALSE(d);
    CHECK(troupe::text_of(d.error()).find("uniform:LOW:HIGH") != std::string::npos);
  }
}
