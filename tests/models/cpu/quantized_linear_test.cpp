#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <simdjson.h>

#include "troupe/models/cpu/packed_matrix.hpp"
#include "troupe/tests/models/cpu/numbers.hpp"

namespace cpu = troupe::models::cpu;
using troupe::models::dtype;

namespace {

std::vector<float> floats(simdjson::dom::element from) {
  std::vector<float> result;
  for (double x : from.get_array())
    result.push_back(static_cast<float>(x));
  return result;
}

} // namespace

TEST_CASE("a quantized layer computes what bitsandbytes computes",
          "[models][cpu][product][quantization]") {
  simdjson::dom::parser parser;
  simdjson::dom::element root =
      parser.load(std::string{TROUPE_GOLDEN_DIR} + "/quantized_linear.json");
  for (simdjson::dom::element one : root["cases"].get_array()) {
    const auto n = static_cast<size_t>(uint64_t{one["n"]});
    const auto k = static_cast<size_t>(uint64_t{one["k"]});
    const auto w = floats(one["w"]);
    const auto bias = floats(one["bias"]);
    const auto x = floats(one["x"]);
    const auto m = x.size() / k;
    for (const bool eight : {true, false}) {
      const auto expected = floats(one[eight ? "int8" : "fp4"]);
      REQUIRE(expected.size() == m * n);
      for (cpu::isa level : cpu::available_isas()) {
        cpu::context where{1, level};
        cpu::weight_arena arena{1 << 20};
        cpu::packed_matrix packed{arena, n, k,
                                  eight ? cpu::panel_format::int8 : cpu::panel_format::fp4};
        packed.pack(where, {w.data(), dtype::fp32, n, k});
        std::vector<float> out(m * n);
        cpu::multiply(where, packed, {x.data(), k, m, out.data(), n, bias.data()});
        INFO(troupe::test::name_of(level) << (eight ? " int8 " : " fp4 ") << n << " x " << k);
        for (size_t i = 0; i < out.size(); ++i) {
          INFO("row " << i / n << " column " << i % n);
          CHECK(out[i] == Approx(expected[i]).epsilon(2e-6).margin(5e-6));
        }
      }
    }
  }
}
