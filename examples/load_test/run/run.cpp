#include "troupe/examples/load_test/run/run.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "troupe/examples/load_test/run/worker.hpp"

namespace troupe::load_test {

namespace {

/// Threads start before the run does, so that the first requests are not late.
constexpr auto head_start = std::chrono::milliseconds{20};

} // namespace

run_outcome run_load(const run_settings& settings, const run_watcher& watch) {
  run_clock clock{std::chrono::steady_clock::now() + head_start};
  std::atomic<uint64_t> tickets{0};
  std::atomic<uint32_t> running{settings.workers};
  std::vector<std::unique_ptr<worker>> workers;
  for (uint32_t i = 0; i < settings.workers; ++i)
    workers.push_back(std::make_unique<worker>(settings, clock, i, tickets));
  std::vector<const report::live_counters*> counters;
  for (const auto& w : workers)
    counters.push_back(&w->counters());
  report::live_window window{std::move(counters)};
  auto look = [&] {
    auto now = std::max<nanoseconds>(0, clock.now());
    auto seen = window.take(static_cast<double>(now) / 1e9);
    seen.duration_s = static_cast<double>(settings.warm_up + settings.duration) / 1e9;
    seen.requests = settings.plan.requests;
    if (settings.duration == 0)
      seen.duration_s = 0;
    seen.phase = now < settings.warm_up ? "warming up"
                 : settings.duration > 0 && now > settings.warm_up + settings.duration
                     ? "waiting for the last answers"
                     : "measuring";
    return seen;
  };
  run_outcome out;
  {
    std::vector<std::jthread> threads;
    for (auto& w : workers)
      threads.emplace_back([&running, &w] {
        w->run();
        --running;
      });
    while (running > 0)
      if (!watch(look()) && !out.interrupted) {
        out.interrupted = true;
        for (auto& w : workers)
          w->stop();
      }
  }
  auto ended = clock.now();
  auto until = settings.duration > 0 ? settings.warm_up + settings.duration : nanoseconds{0};
  if (until > 0 && out.interrupted)
    until = std::min(until, ended);
  for (auto& w : workers) {
    w->drain_into(out);
    out.ordinary.health.cpu_seconds += w->cpu_seconds();
  }
  finish(out.ordinary, settings.warm_up, until);
  finish(out.odd, settings.warm_up, until);
  auto& health = out.ordinary.health;
  health.workers = settings.workers;
  health.wall_seconds =
      static_cast<double>(std::max<nanoseconds>(0, out.ordinary.end - out.ordinary.begin)) / 1e9;
  out.odd.health = health;
  return out;
}

} // namespace troupe::load_test
