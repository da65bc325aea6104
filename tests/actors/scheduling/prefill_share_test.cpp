#include <catch2/catch.hpp>

#include "troupe/actors/scheduling/prefill_share.hpp"

using namespace troupe::scheduling;

namespace {

constexpr uint64_t ms = 1'000'000;

/// Has seen 16 streams decode at 40 ms a step, and prompts at 1.6 ms a token.
prefill_share experienced() {
  prefill_share share{prefill_limits{}};
  for (int i = 0; i < 50; ++i) {
    share.learn(16, 0, 40 * ms);
    share.learn(0, 500, 800 * ms);
  }
  return share;
}

} // namespace

TEST_CASE("with nothing to decode prompts take the whole budget", "[actors][prefill_share]") {
  auto share = experienced();
  CHECK(share.tokens({0, 0, 1, 2000, 1}) > 100'000);
}

TEST_CASE("with several shards chunks are large enough to pay and small enough to fill them",
          "[actors][prefill_share]") {
  prefill_limits limits;
  limits.pipeline_chunk = 64;
  limits.step_overhead_tokens = 50;
  prefill_share share{limits};
  auto chunk = [&](uint64_t burst, uint32_t depth, uint64_t left) {
    return share.tokens({0, 0, 1, left, depth, burst});
  };
  // The time of a burst on equal shards, in tokens.
  auto time = [](double burst, double shards, double c) {
    return (burst / c + shards - 1) * (c + 50);
  };
  for (uint32_t shards : {2u, 4u, 8u}) {
    const auto c = chunk(65'536, shards, 65'536);
    CHECK(time(65'536, shards, c) <= time(65'536, shards, c * 1.2));
    CHECK(time(65'536, shards, c) <= time(65'536, shards, c / 1.2));
    CHECK(chunk(65'536, shards, 2'000) == c); // the last chunks, too
  }
  CHECK(chunk(200, 4, 200) == limits.pipeline_chunk);
}

TEST_CASE("beside running streams a long prompt gets what keeps a step below twice its time",
          "[actors][prefill_share]") {
  auto share = experienced();
  auto chunk = share.tokens({16, 16, 1, 2000, 1});
  CHECK(chunk >= 8);
  CHECK(40.0 + 1.6 * chunk < 80.0);
  CHECK(40.0 + 1.6 * chunk > 60.0); // and no less than it can have
}

TEST_CASE("the chunk follows what steps really cost", "[actors][prefill_share]") {
  auto share = experienced();
  auto before = share.tokens({16, 16, 1, 2000, 1});
  // Prompt tokens turn out to be twice as dear beside the streams.
  for (int i = 0; i < 200; ++i)
    share.learn(16, before, 40 * ms + before * 32 * ms / 10);
  auto after = share.tokens({16, 16, 1, 2000, 1});
  CHECK(after < before);
  CHECK(40.0 + 3.2 * after < 80.0);
}

TEST_CASE("a prompt always gets on", "[actors][prefill_share]") {
  prefill_limits limits;
  prefill_share share{limits};
  share.learn(16, 0, 10 * ms);
  share.learn(0, 100, 100'000 * ms);
  CHECK(share.tokens({16, 16, 1, 2000, 1}) == limits.min_chunk);
}

TEST_CASE("before anything was measured the chunk is small", "[actors][prefill_share]") {
  prefill_limits limits;
  CHECK(prefill_share{limits}.tokens({16, 16, 1, 2000, 1}) == limits.first_chunk);
}

TEST_CASE("a burst of short prompts takes the whole budget", "[actors][prefill_share]") {
  auto share = experienced();
  CHECK(share.tokens({4, 4, 12, 12 * 128, 1}) > 100'000);
  CHECK(share.tokens({12, 12, 4, 4 * 128, 1}) > 100'000);
  CHECK(share.tokens({4, 4, 12, 12 * 600, 1}) < 100);
  CHECK(share.tokens({16, 16, 1, 128, 1}) < 100);
}

TEST_CASE("long prompts never stall a stream, however many wait", "[actors][prefill_share]") {
  auto share = experienced();
  auto one = share.tokens({16, 16, 1, 2000, 1});
  auto many = share.tokens({16, 16, 32, 32 * 2000, 1});
  CHECK(many > one);
  CHECK(many < 100);
}

TEST_CASE("steps that are short anyway are not rationed", "[actors][prefill_share]") {
  prefill_share share{prefill_limits{}};
  share.learn(64, 0, 20'000);
  share.learn(0, 512, 50'000);
  CHECK(share.tokens({64, 64, 1, 2000, 1}) > 512);
}

TEST_CASE("a step size never seen is taken for the next smaller one", "[actors][prefill_share]") {
  prefill_share share{prefill_limits{}};
  CHECK(share.decode_time(4) == 0);
  share.learn(4, 0, 30 * ms);
  share.learn(64, 0, 90 * ms);
  CHECK(share.decode_time(16) == Approx(30.0 * ms));
  CHECK(share.decode_time(1) == Approx(30.0 * ms));
  CHECK(share.decode_time(100) == Approx(90.0 * ms));
}

TEST_CASE("streams in other steps are protected too", "[actors][prefill_share]") {
  auto share = experienced();
  auto beside = share.tokens({16, 32, 1, 2000, 2});
  CHECK(share.tokens({0, 32, 1, 2000, 2}) == beside);
  CHECK(beside < 100);
}

TEST_CASE("with several shards a lone prompt is cut so that all have work",
          "[actors][prefill_share]") {
  prefill_share share{prefill_limits{}};
  CHECK(share.tokens({0, 0, 1, 512, 2, 512}) == 90);
  CHECK(share.tokens({0, 0, 1, 20, 2, 20}) == 64);
}
