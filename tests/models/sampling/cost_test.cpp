#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "troupe/models/sampling/row_kernels.hpp"

#include "fixtures.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::models::test;

namespace {
std::atomic<size_t> allocations{0};
}

// Counts what the program takes from the heap. The form that does not throw belongs to it, because
// sanitizers compare who allocates with who frees.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* operator new(size_t bytes) {
  if (void* memory = operator new(bytes, std::nothrow))
    return memory;
  throw std::bad_alloc{};
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

TEST_CASE("drawing a token takes nothing from the heap once warm", "[models][sampling]") {
  const auto row = random_row(5000, 1);
  sampling_params filtered;
  filtered.sample = true;
  filtered.temperature = 0.8f;
  filtered.top_k = 50;
  filtered.top_p = 0.9f;
  filtered.repetition_penalty = 1.1f;
  for (const auto& p : {sampling_params{}, filtered}) {
    const sequence_sampler sampler{start_of(p)};
    sample_row(row, sampler, wants_token(), 3);
    const auto before = allocations.load();
    const auto result = sample_row(row, sampler, wants_token(), 3);
    CHECK(allocations.load() == before);
    CHECK(result.fault == ec::none);
  }
}

// Run with: sampling_test "[bench]"
TEST_CASE("time per row of 49,152 logits", "[.][bench]") {
  std::vector<std::vector<float>> rows;
  for (uint32_t i = 0; i < 8; ++i)
    rows.push_back(random_row(49152, i, i % 2 == 0 ? 0.5f : 2.5f)); // Flat and peaked in turn.
  const auto report = [&](const char* name, const sampling_params& p, const row_wants& wants) {
    auto start = start_of(p);
    for (int32_t i = 0; i < 997; ++i)
      start.history.push_back(i * 7919 % 49152);
    const sequence_sampler sampler{start};
    std::vector<double> times;
    for (size_t i = 0; i < 201; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const auto result = sample_row(rows[i % 8], sampler, wants, 1000);
      times.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
              .count());
      REQUIRE(result.fault == ec::none);
    }
    std::nth_element(times.begin(), times.begin() + 100, times.end());
    std::printf("%-10s %-28s %7.1f us\n", sampling::kernels().name.data(), name, times[100]);
  };
  sampling_params p;
  report("greedy", p, wants_token());
  report("greedy, top_n 5", p, wants_token(5));
  p.repetition_penalty = 1.1f;
  report("greedy, repetition penalty", p, wants_token());
  p = {};
  p.sample = true;
  report("sampling", p, wants_token());
  p.temperature = 0.7f;
  p.top_k = 50;
  p.top_p = 0.9f;
  report("temperature, top_k, top_p", p, wants_token());
  p = {};
  p.sample = true;
  const auto with = [&](const char* name, auto field, auto value) {
    auto q = p;
    q.*field = value;
    report(name, q, wants_token());
  };
  with("top_k 50", &sampling_params::top_k, 50);
  with("top_k 2000", &sampling_params::top_k, 2000);
  with("top_p 0.9", &sampling_params::top_p, 0.9f);
  with("top_p 0.999", &sampling_params::top_p, 0.999f);
  with("min_p 0.05", &sampling_params::min_p, 0.05f);
  with("typical_p 0.9", &sampling_params::typical_p, 0.9f);
  with("eta_cutoff 0.0003", &sampling_params::eta_cutoff, 0.0003f);
}
