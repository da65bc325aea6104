#include <catch2/catch.hpp>

#include "troupe/actors/registration.hpp"

using namespace troupe;

namespace {

using numbers = std::pair<uint32_t, uint32_t>;

const device_groups cpu;
const device_groups single_gpus{{0}, {1}, {2}};
const device_groups pairs{{0, 1}, {2, 3}, {4, 5}};

numbers on(const registration& as, const device_groups& groups, size_t index) {
  const auto found = workers_on(as, groups, index);
  return {found.min, found.max};
}

worker_scaling wish(int64_t min, int64_t max, std::vector<int32_t> devices = {}) {
  return {"m", "", min, max, std::move(devices)};
}

} // namespace

TEST_CASE("workers are counted for each GPU, one unless a setting says more",
          "[actors][registration]") {
  registration as;
  as.max_workers = 2; // The CPU's.
  CHECK(on(as, cpu, 0) == numbers{1, 2});
  count_for_gpus(as, single_gpus, false);
  CHECK(on(as, single_gpus, 2) == numbers{1, 1});
  as.gpu_max_workers = 3;
  count_for_gpus(as, single_gpus, false);
  CHECK(on(as, single_gpus, 0) == numbers{1, 3});
  as.gpu_min_workers = 9;
  count_for_gpus(as, single_gpus, false);
  CHECK(on(as, single_gpus, 0) == numbers{3, 3});
}

TEST_CASE("where a copy takes several GPUs, maxWorkers bounds all of them",
          "[actors][registration]") {
  registration as;
  count_for_gpus(as, pairs, true);
  for (size_t i = 0; i < pairs.size(); ++i)
    CHECK(on(as, pairs, i) == numbers{1, 1});
  as.gpu_max_workers = 2;
  count_for_gpus(as, pairs, true);
  CHECK(on(as, pairs, 1) == numbers{1, 1});
  CHECK(on(as, pairs, 2) == numbers{0, 0});
  as.gpu_min_workers = 1;
  count_for_gpus(as, pairs, true);
  CHECK(on(as, pairs, 1) == numbers{0, 1});
}

TEST_CASE("scaling changes all devices or some", "[actors][registration]") {
  registration as;
  count_for_gpus(as, single_gpus, false);
  auto some = scaled(as, wish(2, 2, {1}), single_gpus);
  REQUIRE(some);
  CHECK(on(*some, single_gpus, 0) == numbers{1, 1});
  CHECK(on(*some, single_gpus, 1) == numbers{2, 2});
  auto again = scaled(*some, wish(-1, 1, {1}), single_gpus); // The minimum is cut.
  CHECK(on(*again, single_gpus, 1) == numbers{1, 1});
  CHECK(again->on_devices.size() == 1);
  auto all = scaled(*some, wish(0, 3), single_gpus);
  CHECK(on(*all, single_gpus, 1) == numbers{0, 3});
  CHECK(all->on_devices.empty());
  // Loaded anew, it keeps them.
  count_for_gpus(*all, single_gpus, false);
  CHECK(on(*all, single_gpus, 2) == numbers{0, 3});
  auto group = scaled(as, wish(0, 0, {3}), pairs);
  CHECK(on(*group, pairs, 1) == numbers{0, 0});
  CHECK(any_workers(*group, pairs));
  CHECK(!any_workers(*scaled(as, wish(0, 0), pairs), pairs));
}

TEST_CASE("devices that a model cannot be on are named", "[actors][registration]") {
  registration as;
  auto everywhere = scaled(as, wish(1, 4, {-1}), cpu);
  REQUIRE(everywhere); // The CPU is all there is.
  CHECK(everywhere->max_workers == 4);
  CHECK(everywhere->on_devices.empty());
  auto no_gpu = scaled(as, wish(1, 1, {0}), cpu);
  CHECK(code_of(no_gpu.error()) == ec::bad_option);
  CHECK(text_of(no_gpu.error()).find("model 'm' is on the CPU") == 0);
  auto no_cpu = scaled(as, wish(1, 1, {-1}), single_gpus);
  CHECK(text_of(no_cpu.error()).find("for the GPUs 0, 1, 2") != std::string::npos);
}
