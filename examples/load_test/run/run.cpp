#include "troupe/examples/load_test/run/run.hpp"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "troupe/examples/load_test/run/worker.hpp"

namespace troupe::load_test {

namespace {

/// Threads start before the run does, so that the first requests are not late.
constexpr auto head_start = std::chrono::milliseconds{20};

run_progress sum_of(const std::vector<std::unique_ptr<worker>>& workers, nanoseconds now) {
  run_progress out;
  for (const auto& w : workers) {
    auto p = w->progress();
    if (!p)
      continue;
    out.active += p->active;
    out.begun += p->begun;
    out.completed += p->completed;
    out.failed += p->failed;
    out.tokens += p->tokens;
    out.recent_ttft.insert(out.recent_ttft.end(), p->recent_ttft.begin(), p->recent_ttft.end());
    out.recent_gaps.insert(out.recent_gaps.end(), p->recent_gaps.begin(), p->recent_gaps.end());
    if (!p->last_failure.empty())
      out.last_failure = p->last_failure;
  }
  out.now = now;
  return out;
}

} // namespace

run_outcome run_load(const run_settings& settings, const run_watcher& watch) {
  run_clock clock{std::chrono::steady_clock::now() + head_start};
  std::atomic<uint64_t> tickets{0};
  std::atomic<uint32_t> running{settings.workers};
  std::vector<std::unique_ptr<worker>> workers;
  for (uint32_t i = 0; i < settings.workers; ++i)
    workers.push_back(std::make_unique<worker>(settings, clock, i, tickets));
  run_outcome out;
  {
    std::vector<std::jthread> threads;
    for (auto& w : workers)
      threads.emplace_back([&running, &w] {
        w->run();
        --running;
      });
    while (running > 0)
      if (!watch(sum_of(workers, clock.now())) && !out.interrupted) {
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
