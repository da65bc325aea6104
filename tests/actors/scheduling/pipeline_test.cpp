#include <catch2/catch.hpp>

#include "troupe/actors/scheduling/pipeline.hpp"

using namespace troupe;
using scheduling::pipeline;

namespace {
step_id launch(pipeline& p) {
  step s;
  p.launch(s);
  CHECK(s.epoch == p.epoch());
  return s.id;
}
} // namespace

TEST_CASE("as many steps are in flight as there are shards", "[actors][pipeline]") {
  pipeline p;
  CHECK(!p.has_room());
  p.open(epoch_id{1}, 2);
  auto a = launch(p);
  CHECK(p.free_slots() == 1);
  auto b = launch(p);
  CHECK(a < b);
  CHECK(!p.has_room());
  CHECK(p.land(epoch_id{1}, a));
  CHECK(p.has_room());
  CHECK(p.in_flight() == 1);
}

TEST_CASE("a step lands once", "[actors][pipeline]") {
  pipeline p;
  p.open(epoch_id{1}, 1);
  auto a = launch(p);
  CHECK(p.land(epoch_id{1}, a));
  CHECK(!p.land(epoch_id{1}, a));
  CHECK(!p.land(epoch_id{1}, step_id{99}));
}

TEST_CASE("what belongs to an older epoch doesn't count, and ids go on", "[actors][pipeline]") {
  pipeline p;
  p.open(epoch_id{1}, 1);
  auto a = launch(p);
  p.close();
  CHECK(!p.has_room());
  CHECK(!p.land(epoch_id{1}, a));
  p.open(epoch_id{2}, 1);
  CHECK(p.in_flight() == 0);
  auto b = launch(p);
  CHECK(a < b);
  CHECK(!p.land(epoch_id{1}, b));
  CHECK(p.land(epoch_id{2}, b));
}

TEST_CASE("ahead, a step more is in flight than there are shards", "[actors][pipeline][ahead]") {
  pipeline p;
  p.open(epoch_id{1}, 1, 1);
  CHECK(p.depth() == 1);
  auto a = launch(p);
  CHECK(p.has_room());
  launch(p);
  CHECK(!p.has_room());
  CHECK(p.land(epoch_id{1}, a));
  CHECK(p.free_slots() == 1);
  p.close();
  CHECK(!p.has_room());
}
