#include <catch2/catch.hpp>

#include <numeric>
#include <random>

#include "troupe/actors/scheduling/block_ledger.hpp"

using namespace troupe;
using namespace troupe::scheduling;

namespace {

std::vector<int32_t> words(int32_t first, size_t n) {
  std::vector<int32_t> result(n);
  std::iota(result.begin(), result.end(), first);
  return result;
}

/// Allocates and publishes the whole blocks of `tokens`.
std::vector<block_id> store(block_ledger& ledger, const std::vector<int32_t>& tokens,
                            prefix_scope scope = {}) {
  std::vector<block_id> table;
  auto chain = content_id::none;
  for (size_t i = 0; i + 4 <= tokens.size(); i += 4) {
    table.push_back(ledger.allocate().value());
    chain = ledger.publish(chain, table.back(), std::span{tokens}.subspan(i, 4), scope);
  }
  return table;
}

uint32_t hits(block_ledger& ledger, const std::vector<int32_t>& tokens, prefix_scope scope = {}) {
  std::vector<block_id> table;
  auto result = ledger.match(tokens, 100, scope, table);
  CHECK(result.blocks == table.size());
  ledger.release_all(table);
  CHECK(ledger.audit() == "");
  return result.blocks;
}

} // namespace

TEST_CASE("blocks are given out until none is left and come back", "[actors][block_ledger]") {
  block_ledger ledger{3, 4};
  std::vector<block_id> table;
  for (int i = 0; i < 3; ++i)
    table.push_back(ledger.allocate().value());
  CHECK(table[0] != table[1]);
  CHECK(table[1] != table[2]);
  CHECK(!ledger.allocate());
  CHECK(ledger.used() == 3);
  ledger.release_all(table);
  CHECK(table.empty());
  CHECK(ledger.free() == 3);
  CHECK(ledger.audit() == "");
}

TEST_CASE("a published prefix is found by whole blocks and counted as shared",
          "[actors][block_ledger]") {
  block_ledger ledger{8, 4};
  auto first = store(ledger, words(0, 12));
  std::vector<block_id> second;
  auto hit = ledger.match(words(0, 10), 100, {}, second);
  CHECK(hit.blocks == 2);
  CHECK(second == std::vector{first[0], first[1]});
  CHECK(ledger.shared() == 2);
  CHECK(ledger.used() == 3);
  ledger.release_all(first);
  CHECK(ledger.shared() == 0);
  CHECK(ledger.used() == 2);
  CHECK(ledger.cached() == 1);
  ledger.release_all(second);
  CHECK(ledger.used() == 0);
  CHECK(ledger.cached() == 3);
  CHECK(ledger.available() == 8);
  CHECK(ledger.audit() == "");
}

TEST_CASE("a match stops at the number of blocks asked for", "[actors][block_ledger]") {
  block_ledger ledger{8, 4};
  auto held = store(ledger, words(0, 12));
  std::vector<block_id> table;
  CHECK(ledger.match(words(0, 12), 2, {}, table).blocks == 2);
}

TEST_CASE("salt and rope base separate equal tokens", "[actors][block_ledger]") {
  block_ledger ledger{8, 4};
  auto held = store(ledger, words(0, 8), {"tenant", 10000.0});
  CHECK(hits(ledger, words(0, 8), {"tenant", 10000.0}) == 2);
  CHECK(hits(ledger, words(0, 8), {"other", 10000.0}) == 0);
  CHECK(hits(ledger, words(0, 8), {"tenant", 10001.0}) == 0);
  CHECK(hits(ledger, words(0, 8)) == 0);
}

TEST_CASE("equal blocks after different beginnings are different", "[actors][block_ledger]") {
  block_ledger ledger{8, 4};
  auto a = words(0, 8);
  auto b = words(100, 8);
  std::copy(a.begin() + 4, a.end(), b.begin() + 4);
  auto held = store(ledger, a);
  CHECK(hits(ledger, b) == 0);
  auto also = store(ledger, b);
  CHECK(hits(ledger, a) == 2);
  CHECK(hits(ledger, b) == 2);
}

TEST_CASE("the end of the least recently used chain is evicted first", "[actors][block_ledger]") {
  block_ledger ledger{6, 4};
  auto old = store(ledger, words(0, 12));
  auto recent = store(ledger, words(100, 12));
  ledger.release_all(old);
  ledger.release_all(recent);
  auto taken = ledger.allocate().value();
  CHECK(hits(ledger, words(0, 12)) == 2);
  CHECK(hits(ledger, words(100, 12)) == 3);
  // The look-ups above made the second chain the more recent one again.
  auto more = ledger.allocate().value();
  CHECK(hits(ledger, words(0, 12)) == 1);
  CHECK(hits(ledger, words(100, 12)) == 3);
  ledger.release(taken);
  ledger.release(more);
}

TEST_CASE("what follows an evicted block is out of reach, not mistaken", "[actors][block_ledger]") {
  block_ledger ledger{2, 4};
  auto table = store(ledger, words(0, 8));
  // The first block goes into the cache before the second, against the usual order.
  ledger.release(table[0]);
  ledger.release(table[1]);
  auto fresh = ledger.allocate().value();
  CHECK(fresh == table[0]);
  // The same place in memory now holds another beginning.
  auto other = words(50, 4);
  ledger.publish(content_id::none, fresh, other, {});
  auto mixed = other;
  auto tail = words(4, 4);
  mixed.insert(mixed.end(), tail.begin(), tail.end());
  CHECK(hits(ledger, mixed) == 1);
  CHECK(hits(ledger, words(0, 8)) == 0);
  ledger.release(fresh);
}

TEST_CASE("content that is published twice stays with the first block", "[actors][block_ledger]") {
  block_ledger ledger{4, 4};
  auto first = store(ledger, words(0, 8));
  auto second = store(ledger, words(0, 8));
  std::vector<block_id> table;
  ledger.match(words(0, 8), 100, {}, table);
  CHECK(table == first);
  ledger.release_all(table);
  ledger.release_all(second);
  CHECK(ledger.cached() == 0);
  CHECK(ledger.free() == 2);
  ledger.release_all(first);
  CHECK(ledger.cached() == 2);
  CHECK(ledger.audit() == "");
}

TEST_CASE("lost contents are found no more", "[actors][block_ledger]") {
  block_ledger ledger{4, 4};
  auto table = store(ledger, words(0, 8));
  ledger.release_all(table);
  ledger.forget_contents();
  CHECK(ledger.free() == 4);
  CHECK(hits(ledger, words(0, 8)) == 0);
}

TEST_CASE("random use never loses a block nor serves a wrong one", "[actors][block_ledger]") {
  std::mt19937 random{7};
  block_ledger ledger{24, 4};
  struct sequence {
    std::vector<int32_t> tokens;
    std::vector<block_id> table;
  };
  std::vector<sequence> live;
  std::vector<std::vector<int32_t>> content(24); // what each block holds, its whole prefix included
  for (int round = 0; round < 4000; ++round) {
    if (random() % 2 == 0 && live.size() < 5) {
      sequence s;
      auto blocks = 1 + random() % 5;
      for (size_t i = 0; i < blocks; ++i)
        for (int j = 0; j < 4; ++j)
          s.tokens.push_back(static_cast<int32_t>(i < 2 ? random() % 2 * 10 : random() % 3));
      auto hit = ledger.match(s.tokens, 100, {}, s.table);
      for (uint32_t i = 0; i < hit.blocks; ++i)
        REQUIRE(content[static_cast<size_t>(s.table[i])] ==
                std::vector<int32_t>(s.tokens.begin(), s.tokens.begin() + (i + 1) * 4));
      auto chain = hit.last;
      for (auto i = hit.blocks; i < blocks; ++i) {
        auto b = ledger.allocate();
        if (!b)
          break;
        s.table.push_back(*b);
        content[static_cast<size_t>(*b)].assign(s.tokens.begin(), s.tokens.begin() + (i + 1) * 4);
        chain = ledger.publish(chain, *b, std::span{s.tokens}.subspan(size_t{i} * 4, 4), {});
      }
      live.push_back(std::move(s));
    } else if (!live.empty()) {
      auto i = random() % live.size();
      ledger.release_all(live[i].table);
      live.erase(live.begin() + static_cast<ptrdiff_t>(i));
    }
    REQUIRE(ledger.audit() == "");
    REQUIRE(ledger.used() + ledger.cached() + ledger.free() == 24);
  }
  for (auto& s : live)
    ledger.release_all(s.table);
  CHECK(ledger.used() == 0);
  CHECK(ledger.audit() == "");
}
