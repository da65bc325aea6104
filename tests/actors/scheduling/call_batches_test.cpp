#include <catch2/catch.hpp>

#include "troupe/actors/scheduling/call_batches.hpp"

using namespace troupe::scheduling;
using namespace std::chrono_literals;
using ids = std::vector<uint64_t>;

namespace {

const call_batches::time_point zero{};

} // namespace

TEST_CASE("with a batch of one, calls run one after another", "[actors][call_batches]") {
  call_batches calls{1, 100ms};
  calls.arrive(1, "a", zero);
  calls.arrive(2, "b", zero);
  CHECK(calls.start(zero) == ids{1});
  CHECK(calls.start(zero).empty());
  CHECK(!calls.due());
  calls.leave(1);
  CHECK(calls.start(zero) == ids{2});
}

TEST_CASE("the requests of a call go together, even those that come while it runs",
          "[actors][call_batches]") {
  call_batches calls{1, 100ms};
  calls.arrive(1, "a", zero);
  CHECK(calls.start(zero) == ids{1});
  calls.arrive(2, "a", zero);
  calls.arrive(3, "b", zero);
  calls.arrive(4, "b", zero);
  CHECK(calls.start(zero) == ids{2});
  calls.leave(1);
  CHECK(calls.start(zero).empty());
  calls.leave(2);
  CHECK(calls.start(zero) == ids{3, 4});
}

TEST_CASE("a batch begins when it is full or its first call has waited long enough",
          "[actors][call_batches]") {
  call_batches calls{3, 100ms};
  calls.arrive(1, "a", zero);
  calls.arrive(2, "b", zero + 50ms);
  CHECK(calls.start(zero + 60ms).empty());
  CHECK(calls.due() == zero + 100ms);
  CHECK(calls.start(zero + 100ms) == ids{1, 2});
  calls.arrive(3, "c", zero + 110ms);
  calls.arrive(4, "d", zero + 111ms);
  calls.arrive(5, "e", zero + 112ms);
  calls.arrive(6, "f", zero + 113ms);
  CHECK(calls.start(zero + 113ms).empty());
  calls.leave(1);
  calls.leave(2);
  CHECK(calls.start(zero + 114ms) == ids{3, 4, 5});
  CHECK(calls.waiting() == 1);
}

TEST_CASE("a call that gives up while it waits is not started", "[actors][call_batches]") {
  call_batches calls{1, 0ms};
  calls.arrive(1, "a", zero);
  calls.arrive(2, "b", zero);
  CHECK(calls.start(zero) == ids{1});
  calls.leave(2);
  calls.leave(1);
  CHECK(calls.start(zero).empty());
  CHECK(!calls.due());
  calls.leave(99);
}

TEST_CASE("a call is known while it waits and while it runs", "[actors][call_batches]") {
  call_batches calls{1, 0ms};
  calls.arrive(1, "a", zero);
  calls.arrive(2, "b", zero);
  calls.start(zero);
  CHECK(calls.knows("a"));
  CHECK(calls.knows("b"));
  CHECK(!calls.knows("c"));
  calls.leave(1);
  CHECK(!calls.knows("a"));
}
