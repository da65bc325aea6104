/// Speed of the CPU kernels on the shapes of the default model (SmolLM2-135M): for each instruction
/// set the matrix products in GB/s of weights (few rows) and GFLOP/s (512 rows), and attention.
/// Usage: bench_kernels [--cpu] [threads] [isa ...]. Times are medians; with --cpu they are the
/// shortest processor times, for one thread on a machine on which others work. Compare with
/// torch_linear.py.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "troupe/models/cpu/attention.hpp"
#include "troupe/models/cpu/elementwise.hpp"
#include "troupe/models/cpu/packed_matrix.hpp"

namespace {

namespace cpu = troupe::models::cpu;
using cpu::panel_format;
using troupe::models::dtype;

struct shape {
  const char* name;
  size_t n;
  size_t k;
};

constexpr shape layer_shapes[] = {
    {"qkv", 960, 576}, {"o", 576, 576}, {"gate_up", 3072, 576}, {"down", 576, 1536}};
constexpr shape logits_shape{"logits", 49152, 576};
constexpr size_t layers = 30;

std::vector<float> random_floats(size_t count) {
  static std::mt19937 engine{1};
  std::uniform_real_distribution<float> draw{-1, 1};
  std::vector<float> values(count);
  for (float& v : values)
    v = draw(engine);
  return values;
}

bool processor_times = false;

double now() {
  timespec t{};
  clock_gettime(processor_times ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// Median (or shortest) seconds of `f`.
template <class F>
double measure(F&& f, double budget = 0.4) {
  f();
  std::vector<double> times;
  const double start = now();
  do {
    const double begin = now();
    f();
    times.push_back(now() - begin);
  } while (now() - start < budget || times.size() < 5);
  if (processor_times)
    return *std::min_element(times.begin(), times.end());
  std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

const char* name_of(panel_format format) {
  switch (format) {
  case panel_format::fp32:
    return "fp32";
  case panel_format::bf16:
    return "bf16";
  case panel_format::int8:
    return "int8";
  case panel_format::fp4:
    return "fp4";
  }
  return "";
}

/// All matrices of the model, so that few rows really read memory.
struct model {
  cpu::weight_arena arena;
  std::vector<cpu::packed_matrix> matrices;
  cpu::packed_matrix logits;

  model(cpu::context& where, panel_format format) {
    const auto w = random_floats(logits_shape.n * logits_shape.k);
    for (size_t layer = 0; layer < layers; ++layer) {
      for (const auto& s : layer_shapes) {
        matrices.emplace_back(arena, s.n, s.k, format);
        matrices.back().pack(where, {w.data(), dtype::fp32, s.n, s.k});
      }
    }
    logits = cpu::packed_matrix{arena, logits_shape.n, logits_shape.k, format};
    logits.pack(where, {w.data(), dtype::fp32, logits_shape.n, logits_shape.k});
  }
};

void bench_products(cpu::context& where, panel_format format) {
  model m{where, format};
  const char* name = name_of(format);
  const auto x = random_floats(512 * 1536);
  std::vector<float> out(16 * logits_shape.n);
  out.resize(std::max(out.size(), size_t{512} * 3072));
  double bytes = 0;
  double weights = 0;
  for (const auto& w : m.matrices) {
    bytes += static_cast<double>(w.byte_size());
    weights += static_cast<double>(w.n() * w.k());
  }
  const auto run = [&](const cpu::packed_matrix& w, size_t rows) {
    cpu::multiply(where, w, {x.data(), w.k(), rows, out.data(), w.n()});
  };
  for (size_t rows : {1, 4, 16, 64}) {
    const double t = measure([&] {
      for (const auto& w : m.matrices)
        run(w, rows);
    });
    std::printf("  %s layers  %3zu rows %8.2f ms %6.1f GB/s %7.1f GFLOP/s\n", name, rows, t * 1e3,
                bytes / t * 1e-9, 2.0 * static_cast<double>(rows) * weights / t * 1e-9);
  }
  for (size_t rows : {1, 4, 16}) {
    const double t = measure([&] { run(m.logits, rows); });
    std::printf("  %s logits  %3zu rows %8.2f ms %6.1f GB/s\n", name, rows, t * 1e3,
                static_cast<double>(m.logits.byte_size()) / t * 1e-9);
  }
  for (size_t rows : {128, 512}) {
    double total = 0;
    double flop = 0;
    for (size_t i = 0; i < std::size(layer_shapes); ++i) {
      const auto& w = m.matrices[i];
      const double t = measure([&] { run(w, rows); }, 0.2);
      const double work = 2.0 * static_cast<double>(rows * w.n() * w.k());
      total += t;
      flop += work;
      std::printf("  %s %-7s %3zu rows %8.3f ms %7.1f GFLOP/s\n", name, layer_shapes[i].name, rows,
                  t * 1e3, work / t * 1e-9);
    }
    cpu::packed_matrix gated{m.arena, 3072, 576, format, cpu::column_order::gated};
    gated.pack(where, {x.data(), dtype::fp32, 512, 576});
    const double fused = measure(
        [&] {
          cpu::multiply(where, gated,
                        {x.data(), 576, rows, out.data(), 1536, nullptr, nullptr, 0,
                         cpu::activation_kind::silu});
        },
        0.2);
    std::printf("  %s gate_up %3zu rows %8.3f ms with silu * up\n", name, rows, fused * 1e3);
    std::printf("  %s all     %3zu rows %8.3f ms %7.1f GFLOP/s\n", name, rows, total * 1e3,
                flop / total * 1e-9);
  }
}

/// Loading: a bf16 file's weights into panels.
void bench_packing(cpu::context& where, panel_format format) {
  const std::vector<uint16_t> file(size_t{8192} * 576, 0x3f80);
  cpu::weight_arena arena;
  cpu::packed_matrix m{arena, 8192, 576, format};
  const double t = measure([&] { m.pack(where, {file.data(), dtype::bf16, 8192, 576}); }, 0.1);
  std::vector<int32_t> ids(512);
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(i * 7919 % 8192);
  std::vector<float> out(ids.size() * 576);
  const double gather = measure([&] { cpu::gather_rows(where, m, ids, out.data(), 576); }, 0.1);
  std::printf("  bf16 source to %s panels: %.2f G weights/s; gathering 512 rows %.0f us\n",
              name_of(format), static_cast<double>(file.size()) / t * 1e-9, gather * 1e6);
}

/// One layer's attention: 9 heads over 3 kv heads of 64.
void bench_attention(cpu::context& where, dtype type, uint32_t sequences, uint32_t tokens,
                     uint32_t context_length) {
  cpu::kv_layout layout{3, 64, 16, type};
  const uint32_t blocks_each = (context_length + 15) / 16;
  const size_t stride = layout.block_bytes();
  std::vector<std::byte> memory(stride * blocks_each * sequences + 64);
  auto* base = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
  cpu::kv_pages pages{layout, base, stride};
  std::vector<uint32_t> blocks(size_t{sequences} * blocks_each);
  for (size_t i = 0; i < blocks.size(); ++i)
    blocks[i] = static_cast<uint32_t>(i);
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937{2});
  std::vector<cpu::attention_row> rows;
  std::vector<cpu::attention_row> fill;
  for (uint32_t s = 0; s < sequences; ++s) {
    rows.push_back(
        {s * tokens, tokens, context_length - tokens, blocks.data() + size_t{s} * blocks_each});
    fill.push_back({0, context_length, 0, blocks.data() + size_t{s} * blocks_each});
  }
  const auto kv = random_floats(std::max(size_t{context_length}, size_t{sequences} * tokens) * 192);
  cpu::write_kv(where, pages, fill, kv.data(), 192, kv.data(), 192);
  const double written =
      measure([&] { cpu::write_kv(where, pages, rows, kv.data(), 192, kv.data(), 192); }, 0.05);
  const auto q = random_floats(size_t{sequences} * tokens * 576);
  std::vector<float> out(q.size());
  const double t = measure([&] {
    cpu::attend(where, pages, rows, {q.data(), 576, 9, 0.125f, 0, out.data(), 576});
  });
  double pairs = 0;
  for (uint32_t i = 0; i < tokens; ++i)
    pairs += context_length - tokens + i + 1;
  pairs *= sequences * 9.0;
  const double bytes =
      static_cast<double>(sequences) * context_length * 3 * 64 * 2 * (type == dtype::fp32 ? 4 : 2);
  std::printf("  %s attention %2u x %4u tokens, context %4u %9.3f ms %6.1f GB/s %7.1f GFLOP/s, "
              "write_kv %.1f us\n",
              type == dtype::fp32 ? "fp32" : "bf16", sequences, tokens, context_length, t * 1e3,
              bytes / t * 1e-9, pairs * 64 * 4 / t * 1e-9, written * 1e6);
}

void bench_elementwise(cpu::context& where, size_t rows) {
  auto x = random_floats(rows * 3072);
  std::vector<float> out(rows * 3072);
  const auto weight = random_floats(3072);
  const double norm = measure(
      [&] {
        cpu::norm_input in;
        in.x = x.data();
        in.x_stride = in.width = 576;
        in.rows = rows;
        cpu::rms_norm(where, in, weight.data(), 1e-5f, out.data(), 576);
      },
      0.1);
  const double silu = measure(
      [&] {
        cpu::gated_activation(where, cpu::activation_kind::silu, x.data(), 3072, rows, 1536,
                              out.data(), 1536);
      },
      0.1);
  std::vector<float> table(rows * 32, 0.5f);
  const double rope = measure(
      [&] {
        cpu::rotary(where, {out.data(), 960, rows, 12, 64}, table.data(), table.data(), 32, false);
      },
      0.1);
  std::printf("  %3zu rows: rms_norm %.1f us, silu * up %.1f us, rotary %.1f us\n", rows,
              norm * 1e6, silu * 1e6, rope * 1e6);
}

} // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string{argv[1]} == "--cpu") {
    processor_times = true;
    --argc;
    ++argv;
  }
  const unsigned threads = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 2;
  std::vector<cpu::isa> levels;
  for (int i = 2; i < argc; ++i) {
    const auto choice = cpu::select_isa(argv[i]);
    if (!choice.problem.empty()) {
      std::fprintf(stderr, "%s\n", choice.problem.c_str());
      return 1;
    }
    levels.push_back(choice.level);
  }
  if (levels.empty())
    levels = cpu::available_isas();
  for (cpu::isa level : levels) {
    std::printf("%s, %u threads\n", std::string{cpu::to_string_view(level)}.c_str(), threads);
    cpu::context where{threads, level};
    size_t calls = 0;
    const double empty = measure(
        [&] {
          where.pool().parallel_for(2 * size_t{threads}, [&](size_t, size_t) {});
          ++calls;
        },
        0.05);
    std::printf("  an empty job %.2f us\n", empty * 1e6);
    for (auto format :
         {panel_format::fp32, panel_format::bf16, panel_format::int8, panel_format::fp4})
      bench_packing(where, format);
    for (auto format :
         {panel_format::fp32, panel_format::bf16, panel_format::int8, panel_format::fp4})
      bench_products(where, format);
    for (dtype type : {dtype::fp32, dtype::bf16}) {
      bench_attention(where, type, 1, 1, 2048);
      bench_attention(where, type, 16, 1, 192);
      bench_attention(where, type, 16, 1, 2048);
      bench_attention(where, type, 4, 128, 128);
      bench_attention(where, type, 1, 512, 2048);
    }
    bench_elementwise(where, 1);
    bench_elementwise(where, 512);
  }
}
