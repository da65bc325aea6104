#include "rig.hpp"

#include <set>

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;
using test::with;

TEST_CASE("with two shards ready sequences are split evenly over two steps",
          "[actors][batching][pipeline]") {
  rig r{rig::small_limits(), 2};
  for (int i = 0; i < 4; ++i)
    r.submit({i, 7}, 20);
  r.launch();
  CHECK(r.flying[0].rows.size() == 4);
  r.land();
  CHECK(r.launch());
  CHECK(r.launch());
  CHECK(r.flying[0].rows.size() == 2);
  CHECK(r.flying[1].rows.size() == 2);
  std::set<sequence_id> all;
  for (auto& s : r.flying)
    for (auto& row : s.rows)
      all.insert(row.sequence);
  CHECK(all.size() == 4);
  CHECK(!r.launch());
  r.run();
}

TEST_CASE("micro-batches even out again after arrivals", "[actors][batching][pipeline]") {
  rig r{rig::small_limits(), 2};
  r.submit({1, 7}, 60);
  r.submit({2, 7}, 60);
  for (int i = 0; i < 5; ++i) {
    while (r.launch()) {
    }
    r.land();
  }
  r.submit({3, 7}, 60);
  r.submit({4, 7}, 60);
  for (int i = 0; i < 10; ++i) {
    while (r.launch()) {
    }
    r.land();
  }
  while (r.launch()) {
  }
  REQUIRE(r.flying.size() == 2);
  CHECK(r.flying[0].rows.size() == 2);
  CHECK(r.flying[1].rows.size() == 2);
  r.run();
}

TEST_CASE("consecutive chunks of a prompt are in flight at once, decode rows are not",
          "[actors][batching][pipeline]") {
  rig r{rig::small_limits(), 3};
  auto a = r.submit(rig::words(1, 60), 4);
  CHECK(r.launch());
  CHECK(r.launch());
  CHECK(r.launch());
  CHECK(r.flying[1].rows[0].position == 16);
  CHECK(r.flying[2].rows[0].position == 32);
  while (r.flying.front().rows[0].token_count > 1) {
    r.land();
    r.launch();
  }
  CHECK(r.flying.size() == 1);
  CHECK(!r.launch());
  r.run();
  r.expect_complete(a);
}

TEST_CASE("the chunks of a burst are of one size, the next burst's of another",
          "[actors][batching][pipeline]") {
  rig r{with([](auto& l) {
          l.prefill.pipeline_chunk = 2;
          l.prefill.step_overhead_tokens = 4;
        }),
        3};
  auto sizes = [&r] {
    std::vector<size_t> all;
    for (;;) {
      while (r.launch())
        if (r.flying.back().rows[0].token_count > 1)
          all.push_back(r.flying.back().tokens.size());
      if (r.flying.empty())
        return all;
      r.land();
    }
  };
  r.submit(rig::words(1, 60), 1);
  CHECK(sizes() == std::vector<size_t>{10, 10, 10, 10, 10, 10});
  r.submit(rig::words(90, 20), 1);
  CHECK(sizes() == std::vector<size_t>{6, 6, 6, 2});
}
