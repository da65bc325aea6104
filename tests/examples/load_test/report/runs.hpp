#pragma once

#include <cmath>
#include <random>

#include "troupe/examples/load_test/results.hpp"

/// Runs as a generator would leave them, without a server.
namespace troupe::load_test::test {

constexpr nanoseconds operator""_ms(unsigned long long x) {
  return static_cast<nanoseconds>(x) * 1'000'000;
}
constexpr nanoseconds operator""_s(unsigned long long x) {
  return static_cast<nanoseconds>(x) * 1'000'000'000;
}

/// Adds a request that ended well, with its gaps.
inline request_record& add_stream(run_results& run, nanoseconds scheduled, nanoseconds ttft,
                                  const std::vector<nanoseconds>& gaps) {
  request_record r;
  r.scheduled = scheduled;
  r.sent = scheduled + 100'000;
  r.first_token = scheduled + ttft;
  r.end = r.first_token;
  r.first_gap = run.gaps.size();
  r.gap_count = static_cast<uint32_t>(gaps.size());
  r.prompt_tokens = 10;
  r.output_tokens = r.gap_count + 1;
  r.status = 200;
  for (auto g : gaps) {
    run.gaps.push_back(g);
    r.end += g;
  }
  run.requests.push_back(r);
  return run.requests.back();
}

inline request_record& add_failure(run_results& run, nanoseconds scheduled, outcome how,
                                   uint16_t status = 0) {
  request_record r;
  r.scheduled = r.sent = scheduled;
  r.end = scheduled + 1_ms;
  r.ended = how;
  r.status = status;
  run.requests.push_back(r);
  return run.requests.back();
}

struct synthetic {
  uint64_t seed = 1;
  double seconds = 20;
  double rate = 40;
  uint32_t tokens = 16;
  double ttft_ms = 50;
  double itl_ms = 8;
  double spread = 0.25;  ///< Of the logarithms, from request to request.
  double weather = 0.1;  ///< Of the logarithms, common to all that happens at the same time.
  double calm_s = 0.3;   ///< How long the weather lasts.
  double run_to_run = 0; ///< Of the logarithms, common to a run.
};

/// An open loop against a server whose speed wanders: an Ornstein-Uhlenbeck process over time, so
/// that neighbouring requests resemble each other as they do in life.
inline run_results make_run(const synthetic& x) {
  std::mt19937_64 random{x.seed};
  std::normal_distribution<double> normal;
  std::exponential_distribution<double> pause{x.rate};
  run_results run;
  run.what.url = "http://127.0.0.1:8080";
  run.what.dialect = "openai-chat";
  run.what.model = "tiny";
  run.what.load = "open loop, poisson, " + std::to_string(static_cast<int>(x.rate)) + " requests/s";
  run.what.version = "0.1.0";
  run.what.rate = x.rate;
  run.what.seed = x.seed;
  run.what.started_at_unix_ms = 1'700'000'000'000;
  run.what.settings = {{"--dialect", "openai-chat"}, {"--rate", std::to_string(x.rate)}};
  run.end = static_cast<nanoseconds>(x.seconds * 1e9);
  run.health = {x.seconds * 0.2, x.seconds, 1};
  auto whole_run = x.run_to_run * normal(random);
  double weather = x.weather * normal(random);
  for (double t = pause(random); t < x.seconds;) {
    auto factor = std::exp(whole_run + weather + x.spread * normal(random));
    std::vector<nanoseconds> gaps;
    for (uint32_t i = 1; i < x.tokens; ++i)
      gaps.push_back(static_cast<nanoseconds>(
          x.itl_ms * 1e6 * std::exp(whole_run + weather + x.spread * normal(random))));
    auto& r = add_stream(run, static_cast<nanoseconds>(t * 1e9),
                         static_cast<nanoseconds>(x.ttft_ms * 1e6 * factor), gaps);
    r.sent = r.scheduled + 50'000;
    auto step = pause(random);
    auto keep = std::exp(-step / x.calm_s);
    weather = keep * weather + std::sqrt(1 - keep * keep) * x.weather * normal(random);
    t += step;
  }
  return run;
}

} // namespace troupe::load_test::test
