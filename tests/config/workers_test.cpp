#include "troupe/config/workers.hpp"

#include "fixture.hpp"

using namespace troupe;
using namespace troupe::config;
using namespace troupe::test;

namespace {

struct fixture : settings_fixture {
  std::pair<uint32_t, uint32_t> on(bool gpu, uint32_t cores = 8) {
    auto limits = resolve_workers(model().values, gpu, from.variables, cores);
    return {limits.least, limits.most};
  }
};

using limits = std::pair<uint32_t, uint32_t>;

} // namespace

TEST_CASE_METHOD(fixture, "without settings a GPU has one worker and the CPU up to two",
                 "[config][workers]") {
  CHECK(on(true) == limits{1, 1});
  CHECK(on(false) == limits{1, 2});
  from.variables["OMP_NUM_THREADS"] = "2";
  CHECK(on(false) == limits{1, 4});
  from.variables["OMP_NUM_THREADS"] = "64";
  CHECK(on(false) == limits{1, 1});
}

TEST_CASE_METHOD(fixture, "the device's form wins, and the lower limit is cut to the upper",
                 "[config][workers]") {
  write("serving.properties", "minWorkers=2\nmaxWorkers=3\ngpu.maxWorkers=5\ncpu.minWorkers=9");
  CHECK(on(true) == limits{2, 5});
  CHECK(on(false) == limits{3, 3});
  auto given = resolve_workers(model().values, true, from.variables, 8);
  CHECK(given.least_given);
  CHECK(given.most_given);
  write("serving.properties", "minWorkers=2"); // Of several GPUs together that is possible.
  CHECK(on(true) == limits{2, 1});
  CHECK(on(false) == limits{2, 2});
  CHECK(!resolve_workers(model().values, true, from.variables, 8).most_given);
  write("serving.properties", "maxWorkers=0");
  CHECK(on(true) == limits{0, 0});
}
