#include <numeric>

#include "support.hpp"

namespace troupe::test {

void test_norms(report& r, const bench_place& p) {
  std::mt19937 random(3);
  for (const uint32_t columns : {8u, 100u, 576u, 1023u, 4096u, 9001u})
    for (const auto out_type : {element::fp32, element::bf16, element::fp16})
      for (const bool layer : {false, true})
        for (const uint32_t padding : {0u, 3u, 8u}) {
          constexpr uint32_t rows = 5;
          tensor in(element::fp32, rows, columns, padding), out(out_type, rows, columns, padding);
          tensor add(element::fp32, rows, columns, padding);
          in.randomize(random, 2);
          add.randomize(random);
          const auto weight = random_floats(random, columns, 0.5, 1.5);
          const auto bias = layer ? random_floats(random, columns, -1, 1) : std::vector<double>{};
          const auto weight_data = floats_of(weight), bias_data = floats_of(bias);
          const norm by{layer ? norm_function::layer : norm_function::rms, weight_data.data(),
                        layer ? bias_data.data() : nullptr, 1e-5f};
          const auto name = std::to_string(columns) + (layer ? " layer" : " rms") + " padding " +
                            std::to_string(padding);
          auto want = [&](const std::vector<double>& from, const std::vector<uint32_t>& picked) {
            std::vector<double> result;
            for (const auto row : picked) {
              std::vector<double> v(columns, 0);
              if (row != no_row) {
                v.assign(from.begin() + row * columns, from.begin() + (row + 1) * columns);
                reference_norm(by.function, 1e-5, weight, bias, v.data(), columns);
              }
              result.insert(result.end(), v.begin(), v.end());
            }
            return result;
          };
          const double tolerance = precision_of(out_type);
          std::vector<uint32_t> all(rows);
          std::iota(all.begin(), all.end(), 0u);
          TROUPE_MUST(normalize(p.on, by, in.view(), nullptr, nullptr, out.view()));
          p.wait();
          r.expect(out.download(), name + ": padding");
          r.close(out.values, want(in.values, all), tolerance, name);

          const std::vector<uint32_t> picked = {4, no_row, 0, 4, 2};
          const device_vector<uint32_t> picked_data(picked);
          TROUPE_MUST(normalize(p.on, by, in.view(), nullptr, picked_data.data(), out.view()));
          p.wait();
          r.expect(out.download(), name + " picked: padding");
          r.close(out.values, want(in.values, picked), tolerance, name + " picked");

          const auto add_view = add.view();
          auto sum = in.values;
          for (size_t i = 0; i < sum.size(); ++i)
            sum[i] = rounded(element::fp32, sum[i] + add.values[i]);
          TROUPE_MUST(normalize(p.on, by, in.view(), &add_view, nullptr, out.view()));
          p.wait();
          r.expect(out.download() && in.download(), name + " added: padding");
          r.close(out.values, want(sum, all), tolerance, name + " added");
          r.close(in.values, sum, 1e-7, name + " sum");
        }
}

void test_elementwise(report& r, const bench_place& p) {
  std::mt19937 random(4);
  for (const auto type : {element::bf16, element::fp16, element::fp32})
    for (const auto f : {activation::none, activation::silu, activation::gelu,
                         activation::gelu_tanh, activation::relu})
      for (const bool gated : {false, true})
        for (const uint32_t columns : {7u, 64u, 2056u}) {
          const uint32_t padding = columns == 7 ? 1 : 8, rows = 6;
          tensor in(type, rows, gated ? 2 * columns : columns, padding);
          tensor out(type, rows, columns, padding);
          in.randomize(random, 5);
          const auto bias = random_floats(random, in.columns(), -1, 1);
          const auto bias_data = floats_of(bias);
          TROUPE_MUST(activate(p.on, f, in.view(), bias_data.data(), out.view()));
          p.wait();
          r.expect(out.download(), "activation: padding");
          std::vector<double> want;
          for (uint32_t t = 0; t < rows; ++t)
            for (uint32_t c = 0; c < columns; ++c) {
              const double v = reference_activation(f, in.at(t, c) + bias[c]);
              want.push_back(gated ? v * (in.at(t, columns + c) + bias[columns + c]) : v);
            }
          r.close(out.values, want, precision_of(type), "activation of " + std::to_string(columns));
          TROUPE_MUST(add_bias(p.on, bias_data.data(), true, out.view()));
          p.wait();
          for (size_t i = 0; i < want.size(); ++i)
            want[i] = out.values[i] + bias[i % columns];
          r.expect(out.download(), "bias: padding");
          r.close(out.values, want, precision_of(type), "bias added");
          TROUPE_MUST(add_bias(p.on, bias_data.data(), false, out.view()));
          p.wait();
          for (size_t i = 0; i < want.size(); ++i)
            want[i] = bias[i % columns];
          out.download();
          r.close(out.values, want, precision_of(type), "bias set");
        }

  for (const auto type : {element::bf16, element::fp16, element::fp32})
    for (const uint32_t columns : {12u, 576u, 2048u})
      for (const bool learned : {false, true}) {
        tensor table(type, 50, columns), positions(type, 20, columns);
        tensor out(element::fp32, 6, columns, columns == 12 ? 1 : 0);
        table.randomize(random);
        positions.randomize(random);
        const std::vector<int32_t> tokens = {3, -1, 49, 7, 0, -1}, latest = {11, 12, 13};
        const std::vector<uint32_t> at = {0, 19, 5, 6, 0, 4}, rows = {0, 1, 2, 2, no_row, 3},
                                    slots = {2, 0, 1, 1};
        const std::vector<int32_t> ids = {3, 11, 49, 7, -1, 12};
        const device_vector<int32_t> tokens_data(tokens), latest_data(latest);
        const device_vector<uint32_t> at_data(at), rows_data(rows), slots_data(slots);
        step_arrays step;
        step.tokens = tokens_data.data();
        step.positions = at_data.data();
        step.token_rows = rows_data.data();
        step.slots = slots_data.data();
        step.latest = latest_data.data();
        step.count = 6;
        step.rows = 4;
        const auto positions_view = positions.view();
        TROUPE_MUST(
            embed(p.on, step, table.view(), learned ? &positions_view : nullptr, out.view()));
        p.wait();
        r.expect(out.download(), "embedding: padding");
        std::vector<double> want;
        for (size_t t = 0; t < ids.size(); ++t)
          for (uint32_t c = 0; c < columns; ++c)
            want.push_back(ids[t] < 0 ? 0
                                      : table.at(static_cast<size_t>(ids[t]), c) +
                                            (learned ? positions.at(at[t], c) : 0));
        r.close(out.values, want, 1e-7, "embedding");
      }
}

void test_loading(report& r, const bench_place& p) {
  std::mt19937 random(5);
  const element types[] = {element::fp32, element::bf16, element::fp16};
  for (const auto from_type : types)
    for (const auto to_type : types)
      for (const bool transposed : {false, true}) {
        constexpr uint32_t rows = 37, columns = 75;
        tensor from(from_type, transposed ? columns : rows, transposed ? rows : columns);
        tensor to(to_type, rows, columns);
        from.randomize(random, 100);
        TROUPE_MUST(convert(p.on, from.view().data, from_type, transposed, rows, columns,
                            to.view().data, to_type));
        p.wait();
        to.download();
        bool equal = true;
        for (uint32_t i = 0; i < rows; ++i)
          for (uint32_t j = 0; j < columns; ++j)
            equal = equal &&
                    to.at(i, j) == rounded(to_type, transposed ? from.at(j, i) : from.at(i, j));
        r.expect(equal, "conversion");
      }
  tensor pages(element::fp32, 9, 260); // 1,040 bytes a block
  pages.randomize(random);
  const device_vector<block_pair> pairs(std::vector<block_pair>{{0, 8}, {3, 1}});
  auto want = pages.values;
  std::copy_n(want.begin(), 260, want.begin() + 8 * 260);
  std::copy_n(want.begin() + 3 * 260, 260, want.begin() + 260);
  TROUPE_MUST(copy_blocks(p.on, pages.view().data, 1040, pairs.data(), 2));
  p.wait();
  pages.download();
  r.expect(pages.values == want, "copied blocks");

  for (const auto type : types) {
    tensor a(type, 100, 101), b(type, 100, 101);
    TROUPE_MUST(fill_random(p.on, 7, 0.5f, a.view().data, type, 10100));
    TROUPE_MUST(fill_random(p.on, 7, 0.5f, b.view().data, type, 10100));
    p.wait();
    a.download();
    b.download();
    double mean = 0, square = 0, top = 0;
    for (const double v : a.values) {
      mean += v / 10100;
      square += v * v / 10100;
      top = std::max(top, std::fabs(v));
    }
    r.expect(a.values == b.values, "random values repeat");
    r.expect(std::fabs(mean) < 0.02 && std::fabs(square - 0.25 / 3) < 0.005 && top <= 0.5,
             "random values are spread evenly");
  }
}

} // namespace troupe::test
