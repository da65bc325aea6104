#include <catch2/catch.hpp>

#include "troupe/models/placement.hpp"

using namespace troupe;
using namespace troupe::models;

TEST_CASE("layers are split whole, in order, and balanced with the logits' cost",
          "[models][placement]") {
  for (uint32_t layers : {1U, 2U, 3U, 30U, 33U})
    for (uint32_t stages = 1; stages <= layers; ++stages) {
      const auto ranges = split_layers(layers, stages, 10, 35);
      REQUIRE(ranges.size() == stages);
      uint32_t next = 0;
      uint64_t worst = 0;
      for (const auto& r : ranges) {
        CHECK(r.first == next);
        CHECK(r.count() > 0);
        CHECK(r.begins == (&r == &ranges.front()));
        CHECK(r.ends == (&r == &ranges.back()));
        next = r.last;
        worst = std::max<uint64_t>(worst, r.count() * 10 + (r.ends ? 35 : 0));
      }
      CHECK(next == layers);
      // No split can beat the mean or the last stage with a single layer; one layer more is
      // allowed.
      CHECK(worst <= std::max<uint64_t>((layers * 10 + 35 + stages - 1) / stages + 10, 45));
    }
}

TEST_CASE("costly logits leave the last stage fewer layers", "[models][placement]") {
  const auto ranges = split_layers(30, 2, 3540, 28311); // SmolLM2-135M, in thousands of weights
  CHECK(ranges[0].count() == 19);
  CHECK(ranges[1].count() == 11);
}

TEST_CASE("threads are shared out, one at least for each stage", "[models][placement]") {
  CHECK(split_threads(5, 2) == std::vector<unsigned>{3, 2});
  CHECK(split_threads(2, 3) == std::vector<unsigned>{1, 1, 1});
  CHECK(split_threads(4, 1) == std::vector<unsigned>{4});
}

TEST_CASE("the KV pool holds what the sequences can use, within a quarter of the free memory",
          "[models][placement]") {
  load_options options;
  options.max_sequences = 4;
  options.kv_block_tokens = 16;
  CHECK(*kv_blocks_for(options, 100, 1000, uint64_t{1} << 40) == 28);
  CHECK(*kv_blocks_for(options, 100, 1000, 40000) == 10);
  CHECK(code_of(kv_blocks_for(options, 100, 1000, 3000).error()) == ec::out_of_memory);
  options.kv_cache_bytes = 5500;
  CHECK(*kv_blocks_for(options, 100, 1000, 3000) == 5);
  options.kv_cache_bytes = 500;
  CHECK(code_of(kv_blocks_for(options, 100, 1000, 3000).error()) == ec::bad_option);
}

TEST_CASE("the compute type follows the wish", "[models][placement]") {
  CHECK(*compute_type("", dtype::bf16) == dtype::fp32);
  CHECK(*compute_type("BF16", dtype::fp32) == dtype::bf16);
  CHECK(*compute_type("auto", dtype::bf16) == dtype::bf16);
  CHECK(*compute_type("auto", dtype::fp16) == dtype::fp32);
  CHECK(*compute_type("fp16", dtype::fp32) == dtype::fp32);
  CHECK(!compute_type("float", dtype::fp32));
}
