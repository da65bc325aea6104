#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "stream.hpp"
#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cuda/kernels/gemm.hpp"
#include "troupe/models/cuda/kernels/kernels.hpp"
#include "troupe/models/cuda/kernels/quantize.hpp"
#include "troupe/models/cuda/scatter.hpp"

/// What kernels.hpp and gemm.hpp promise, in the plainest form. One row at a time, so that a row's
/// bits depend on nothing else.
namespace troupe::models::cuda {

using test::emulation::enqueue;

namespace {

dtype dtype_of(element e) {
  return e == element::fp32 ? dtype::fp32 : e == element::bf16 ? dtype::bf16 : dtype::fp16;
}

std::byte* at(const matrix& m, size_t row) {
  return static_cast<std::byte*>(m.data) + row * m.stride * size_of(m.type);
}

std::vector<float> read(const void* from, element type, size_t count) {
  std::vector<float> values(count);
  cpu::widen(dtype_of(type), from, count, values.data());
  return values;
}

std::vector<float> read_row(const matrix& m, size_t row) {
  return read(at(m, row), m.type, m.columns);
}

void write(void* to, element type, const std::vector<float>& values) {
  if (type == element::fp32)
    std::memcpy(to, values.data(), values.size() * sizeof(float));
  else
    cpu::narrow(values.data(), values.size(), dtype_of(type), to);
}

void write_row(const matrix& m, size_t row, const std::vector<float>& values) {
  write(at(m, row), m.type, values);
}

void apply_norm(const norm& by, float* x, size_t count) {
  double mean = 0;
  double square = 0;
  for (size_t i = 0; i < count; ++i)
    mean += x[i];
  mean = by.function == norm_function::layer ? mean / static_cast<double>(count) : 0;
  for (size_t i = 0; i < count; ++i)
    square += (x[i] - mean) * (x[i] - mean);
  const auto scale =
      static_cast<float>(1 / std::sqrt(square / static_cast<double>(count) + by.epsilon));
  for (size_t i = 0; i < count; ++i)
    x[i] = (x[i] - static_cast<float>(mean)) * scale * by.weight[i] +
           (by.bias != nullptr ? by.bias[i] : 0);
}

float activated(activation f, float x) {
  switch (f) {
  case activation::none:
    return x;
  case activation::silu:
    return x / (1 + std::exp(-x));
  case activation::gelu:
    return 0.5f * x * (1 + std::erf(x * 0.70710678f));
  case activation::gelu_tanh:
    return 0.5f * x * (1 + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
  case activation::relu:
    return std::max(x, 0.0f);
  }
  return x;
}

/// One head's rows in the pages.
std::byte* page_at(const step_arrays& step, const kv_pages& p, uint32_t slot, uint32_t position,
                   uint32_t head, bool values) {
  const auto block = step.block_tables[slot * step.table_stride + position / p.block_tokens];
  const size_t row = (values ? size_t{p.kv_heads} * p.block_tokens : 0) +
                     size_t{head} * p.block_tokens + position % p.block_tokens;
  return static_cast<std::byte*>(p.base) + block * p.block_stride +
         row * p.head_size * size_of(p.type);
}

void store(const step_arrays& step, const matrix& qkv, uint32_t heads, const norm* q_norm,
           const norm* k_norm, const rotation& by, const kv_pages& p) {
  const uint32_t d = p.head_size;
  for (uint32_t t = 0; t < step.count; ++t) {
    const auto row = step.token_rows[t];
    if (row == no_row)
      continue;
    auto x = read_row(qkv, t);
    const auto slot = step.slots[row];
    for (uint32_t h = 0; h < heads + p.kv_heads; ++h) {
      float* head = x.data() + h * d;
      if (const auto* n = h < heads ? q_norm : k_norm; n != nullptr)
        apply_norm(*n, head, d);
      if (by.frequencies == nullptr)
        continue;
      const auto* f = by.frequencies + (by.tables != nullptr ? by.tables[slot] : 0) * (d / 2);
      for (uint32_t i = 0; i < d / 2; ++i) {
        const float angle = static_cast<float>(step.positions[t]) * f[i];
        const float c = std::cos(angle) * by.factor;
        const float s = std::sin(angle) * by.factor;
        const float a = head[i];
        const float b = head[i + d / 2];
        head[i] = a * c - b * s;
        head[i + d / 2] = b * c + a * s;
      }
    }
    write_row(qkv, t, x);
    for (uint32_t h = 0; h < p.kv_heads; ++h)
      for (const bool values : {false, true}) {
        const auto first = x.begin() + (heads + (values ? p.kv_heads : 0) + h) * d;
        write(page_at(step, p, slot, step.positions[t], h, values), p.type,
              std::vector<float>(first, first + d));
      }
  }
}

void attend_token(const step_arrays& step, const matrix& qkv, const attention& how,
                  const kv_pages& p, uint32_t row, uint32_t t, const matrix& out) {
  const uint32_t d = p.head_size;
  const auto q = read_row(qkv, t);
  const auto slot = step.slots[row];
  const auto last = step.positions[t];
  const auto first = how.window > 0 && last + 1 > how.window ? last + 1 - how.window : 0;
  std::vector<float> result(how.heads * d);
  for (uint32_t h = 0; h < how.heads; ++h) {
    const auto kv_head = h / (how.heads / p.kv_heads);
    std::vector<float> scores;
    for (uint32_t at = first; at <= last; ++at) {
      const auto k = read(page_at(step, p, slot, at, kv_head, false), p.type, d);
      float sum = 0;
      for (uint32_t i = 0; i < d; ++i)
        sum += q[h * d + i] * k[i];
      scores.push_back(sum * how.scale);
    }
    const float most = *std::max_element(scores.begin(), scores.end());
    float mass = 0;
    for (auto& s : scores)
      mass += s = std::exp(s - most);
    for (uint32_t at = first; at <= last; ++at) {
      const auto v = read(page_at(step, p, slot, at, kv_head, true), p.type, d);
      for (uint32_t i = 0; i < d; ++i)
        result[h * d + i] += scores[at - first] / mass * v[i];
    }
  }
  write_row(out, t, result);
}

class no_library final : public gemm_library {
public:
  cudaError_t multiply(const launcher&, const matrix&, const weight&, bool,
                       const matrix&) override {
    return cudaErrorNotSupported;
  }
  cudaError_t prepare(const launcher&, const matrix&, const weight&, bool, const matrix&) override {
    return cudaErrorNotSupported;
  }
};

} // namespace

cudaError_t query_device(int, device_traits& traits) {
  traits = {.multiprocessors = 4, .major = 9, .minor = 0, .shared_bytes = 200 << 10};
  return cudaSuccess;
}

cudaError_t embed(const launcher& on, const step_arrays& step, const matrix& table,
                  const matrix* learned, const matrix& out) {
  const auto positions = learned != nullptr ? *learned : matrix{};
  enqueue(on.stream, [=] {
    for (uint32_t t = 0; t < step.count; ++t) {
      const auto row = step.token_rows[t];
      if (row == no_row) {
        write_row(out, t, std::vector<float>(out.columns));
        continue;
      }
      const auto id = step.tokens[t] >= 0 ? step.tokens[t] : step.latest[step.slots[row]];
      auto x = read_row(table, static_cast<size_t>(id));
      if (positions.data != nullptr) {
        const auto p = read_row(positions, step.positions[t]);
        std::transform(x.begin(), x.end(), p.begin(), x.begin(), std::plus<>{});
      }
      write_row(out, t, x);
    }
  });
  return cudaSuccess;
}

cudaError_t normalize(const launcher& on, const norm& by, const matrix& in, const matrix* add,
                      const uint32_t* rows, const matrix& out) {
  if (add != nullptr)
    return cudaErrorInvalidValue;
  enqueue(on.stream, [=] {
    for (uint32_t i = 0; i < out.rows; ++i) {
      if (rows != nullptr && rows[i] == no_row) {
        write_row(out, i, std::vector<float>(out.columns));
        continue;
      }
      auto x = read_row(in, rows != nullptr ? rows[i] : i);
      apply_norm(by, x.data(), x.size());
      write_row(out, i, x);
    }
  });
  return cudaSuccess;
}

cudaError_t rotate_and_store(const launcher& on, const step_arrays& step, const matrix& qkv,
                             uint32_t heads, const norm* q_norm, const norm* k_norm,
                             const rotation& by, const kv_pages& pages) {
  const auto q = q_norm != nullptr ? *q_norm : norm{};
  const auto k = k_norm != nullptr ? *k_norm : norm{};
  enqueue(on.stream, [=] {
    store(step, qkv, heads, q.weight != nullptr ? &q : nullptr, k.weight != nullptr ? &k : nullptr,
          by, pages);
  });
  return cudaSuccess;
}

decode_split choose_decode_split(const device_traits&, uint32_t rows, uint32_t, uint32_t, bool) {
  return {.parts = rows, .part_tokens = 0};
}

size_t decode_workspace_bytes(uint32_t rows, uint32_t, uint32_t kv_heads, uint32_t, decode_split) {
  return rows * kv_heads * sizeof(uint32_t);
}

cudaError_t attend_decode(const launcher& on, const step_arrays& step, const matrix& qkv,
                          const attention& how, const kv_pages& pages, decode_split, void* space,
                          const matrix& out) {
  enqueue(on.stream, [=] {
    for (uint32_t i = 0; i < step.rows * pages.kv_heads; ++i)
      if (static_cast<uint32_t*>(space)[i] != 0)
        std::abort(); // The workspace was not cleared, or is somebody else's.
    for (uint32_t r = 0; r < step.rows; ++r)
      if (step.token_counts[r] == 1)
        attend_token(step, qkv, how, pages, r, step.first_tokens[r], out);
  });
  return cudaSuccess;
}

bool can_fuse_decode(const attention&, const kv_pages& pages) {
  return pages.head_size % 16 == 0;
}

cudaError_t rotate_and_attend(const launcher& on, const step_arrays& step, const matrix& qkv,
                              const norm* q_norm, const norm* k_norm, const rotation& by,
                              const attention& how, const kv_pages& pages, decode_split split,
                              void* space, const matrix& out) {
  rotate_and_store(on, step, qkv, how.heads, q_norm, k_norm, by, pages);
  return attend_decode(on, step, qkv, how, pages, split, space, out);
}

uint32_t prefill_tile_tokens(const attention&, const kv_pages&) {
  return 8;
}

cudaError_t attend_prefill(const launcher& on, const step_arrays& step, const matrix& qkv,
                           const attention& how, const kv_pages& pages, const query_tile* tiles,
                           uint32_t tile_count, const matrix& out) {
  enqueue(on.stream, [=] {
    for (uint32_t i = 0; i < tile_count; ++i) {
      const auto row = tiles[i].row;
      for (uint32_t t = tiles[i].first; t < std::min(step.token_counts[row], tiles[i].first + 8);
           ++t)
        attend_token(step, qkv, how, pages, row, step.first_tokens[row] + t, out);
    }
  });
  return cudaSuccess;
}

cudaError_t convert(const launcher& on, const void* from, element from_type, bool transposed,
                    uint32_t rows, uint32_t columns, void* to, element to_type) {
  enqueue(on.stream, [=] {
    const auto x = read(from, from_type, size_t{rows} * columns);
    auto y = x;
    if (transposed)
      for (uint32_t r = 0; r < rows; ++r)
        for (uint32_t c = 0; c < columns; ++c)
          y[size_t{r} * columns + c] = x[size_t{c} * rows + r];
    write(to, to_type, y);
  });
  return cudaSuccess;
}

namespace {

std::vector<float> weights_of(const weight& w) {
  if (w.kept_as == quantization::none)
    return read(w.data, w.type, size_t{w.n} * w.k);
  std::vector<float> all(size_t{w.n} * w.k);
  const auto* codes = static_cast<const uint8_t*>(w.data);
  const size_t span = fp4_scale_span(w.k);
  for (size_t i = 0; i < all.size(); ++i) {
    const size_t row = i / w.k;
    const size_t column = i % w.k;
    if (w.kept_as == quantization::int8) {
      all[i] = static_cast<float>(codes[i] - 128) * w.scales[row];
      continue;
    }
    const unsigned both = codes[row * code_row_bytes(w.kept_as, w.k) + column / 2];
    all[i] =
        fp4_values[column % 2 == 0 ? both & 15U : both >> 4] * w.scales[column / span * w.n + row];
  }
  return all;
}

/// What LLM.int8() makes of a row, in units of the row itself.
void round_to_codes(std::vector<float>& x) {
  const auto half = [](float v) { return cpu::fp16_to_fp32(cpu::fp32_to_fp16(v)); };
  float largest = 0;
  for (float v : x)
    if (std::abs(half(v)) < outlier_threshold)
      largest = std::max(largest, std::abs(half(v)));
  for (float& v : x)
    if (std::abs(half(v)) < outlier_threshold)
      v = std::nearbyint(half(v) * int8_factor(largest)) * (largest / int8_codes);
}

} // namespace

cudaError_t scatter(cudaStream_t on, uint32_t* base, const scatter_word* words, uint32_t count) {
  enqueue(on, [=] {
    for (uint32_t i = 0; i < count; ++i)
      base[words[i].place] = words[i].value;
  });
  return cudaSuccess;
}

cudaError_t quantize_weight(const launcher& on, const void* from, element from_type,
                            bool transposed, uint32_t rows, uint32_t first, const weight& into,
                            float*) {
  enqueue(on.stream, [=] {
    const uint32_t k = into.k;
    auto w = read(from, from_type, size_t{rows} * k);
    if (transposed) {
      const auto columns = w;
      for (size_t i = 0; i < w.size(); ++i)
        w[i] = columns[i % k * rows + i / k];
    }
    auto* codes = static_cast<uint8_t*>(const_cast<void*>(into.data)) +
                  first * code_row_bytes(into.kept_as, k);
    auto* scales = const_cast<float*>(into.scales) + first;
    const bool eight = into.kept_as == quantization::int8;
    const size_t span = fp4_scale_span(k);
    for (size_t i = 0; i < w.size(); ++i) {
      const size_t row = i / k;
      const size_t column = i % k;
      const size_t begin = eight ? row * k : i / fp4_block * fp4_block;
      const size_t end = std::min(begin + (eight ? k : fp4_block), w.size());
      const auto at = [&](size_t place) {
        return eight ? cpu::fp16_to_fp32(cpu::fp32_to_fp16(w[place])) : w[place];
      };
      float largest = 0;
      for (size_t place = begin; place < end; ++place)
        largest = std::max(largest, std::abs(at(place)));
      if (eight) {
        scales[row] = largest / int8_codes;
        codes[i] = static_cast<uint8_t>(std::lrint(at(i) * int8_factor(largest)) + 128);
        continue;
      }
      scales[column / span * into.n + row] = largest;
      auto& both = codes[row * code_row_bytes(into.kept_as, k) + column / 2];
      const auto code = fp4_code(at(i) * (1 / largest));
      both = static_cast<uint8_t>(column % 2 == 0 ? code : both | code << 4);
    }
  });
  return cudaSuccess;
}

size_t linear_scratch_bytes(const linear_call& call) {
  return size_t{call.x.rows} * call.by.n * 4;
}

cudaError_t linear(const launcher& on, const linear_call& call, gemm_library*) {
  const auto before = call.before != nullptr ? *call.before : norm{};
  enqueue(on.stream, [=] {
    const auto& w = call.by;
    const uint32_t n = call.gated ? w.n / 2 : w.n;
    const auto all = weights_of(w);
    const auto product = [&](const std::vector<float>& x, uint32_t i) {
      float sum = 0;
      for (uint32_t c = 0; c < w.k; ++c)
        sum += x[c] * all[size_t{i} * w.k + c];
      return sum + (w.bias != nullptr ? w.bias[i] : 0);
    };
    for (uint32_t t = 0; t < call.x.rows; ++t) {
      auto x = read_row(call.x, t);
      if (before.weight != nullptr)
        apply_norm(before, x.data(), x.size());
      if (w.kept_as == quantization::int8)
        round_to_codes(x);
      auto y = call.accumulate ? read_row(call.y, t) : std::vector<float>(n);
      for (uint32_t i = 0; i < n; ++i)
        y[i] += activated(call.function, product(x, i)) * (call.gated ? product(x, n + i) : 1);
      write_row(call.y, t, y);
    }
  });
  return cudaSuccess;
}

std::unique_ptr<gemm_library> open_gemm_library(void*, size_t, std::string&) {
  return std::make_unique<no_library>();
}

} // namespace troupe::models::cuda
