#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/thread_pool.hpp"

using troupe::models::cpu::thread_pool;
using namespace std::chrono_literals;

TEST_CASE("every part runs once, and its writes are seen afterwards", "[models][cpu][threads]") {
  for (unsigned threads : {0, 1, 2, 4}) {
    thread_pool pool{threads};
    CHECK(pool.size() == std::max(threads, 1U));
    for (size_t parts : {0, 1, 2, 3, 7, 100}) {
      std::vector<int> runs(parts, 0); // Plain integers: a race would show under ThreadSanitizer.
      std::atomic<bool> known{true};
      pool.parallel_for(parts, [&](size_t part, size_t thread) {
        ++runs[part];
        if (thread >= pool.size())
          known = false;
      });
      CHECK(runs == std::vector<int>(parts, 1));
      CHECK(known);
    }
  }
}

TEST_CASE("thousands of small jobs follow each other without a mix-up", "[models][cpu][threads]") {
  thread_pool pool{3};
  size_t total = 0;
  for (size_t job = 0; job < 5000; ++job) {
    size_t sums[5] = {};
    pool.parallel_for(5, [&sums, job](size_t part, size_t) { sums[part] = job + part; });
    for (size_t part = 0; part < 5; ++part)
      total += sums[part] == job + part;
    if (job % 1000 == 0)
      std::this_thread::sleep_for(1ms); // The workers fall asleep and have to be woken.
  }
  CHECK(total == 25000);
}

TEST_CASE("pools of several shards work side by side", "[models][cpu][threads]") {
  std::atomic<size_t> done{0};
  std::vector<std::thread> shards;
  for (int i = 0; i < 3; ++i) {
    shards.emplace_back([&done] {
      thread_pool pool{2, true};
      for (int job = 0; job < 500; ++job)
        pool.parallel_for(
            4, [&done](size_t, size_t) { done.fetch_add(1, std::memory_order_relaxed); });
    });
  }
  for (auto& shard : shards)
    shard.join();
  CHECK(done == 3 * 500 * 4);
}

TEST_CASE("idle workers burn no processor time", "[models][cpu][threads]") {
  thread_pool pool{4};
  pool.parallel_for(8, [](size_t, size_t) {});
  std::this_thread::sleep_for(20ms);
  const auto used = [] {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  const double before = used();
  std::this_thread::sleep_for(200ms);
  CHECK(used() - before < 0.02);
}
