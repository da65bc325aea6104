#include "troupe/models/loading/random_weights.hpp"

#include <algorithm>
#include <bit>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/host_memory.hpp"

namespace troupe::models {

namespace {

constexpr unsigned most_threads = 16;
constexpr size_t part_values = 1 << 16;
/// Uniform in (-a, a) has a standard deviation of a / sqrt(3).
constexpr float spread = 0.02f * 1.7320508f;

/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
constexpr uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

uint64_t hash_of(std::string_view text) {
  uint64_t h = 0xCBF29CE484222325u;
  for (unsigned char c : text)
    h = (h ^ c) * 0x100000001B3u;
  return h;
}

/// Four values come of each hash.
void draw_floats(uint64_t key, uint64_t first, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t at = first + i;
    const auto bits =
        static_cast<int16_t>(mixed(key + (at >> 2) * 0x9E3779B97F4A7C15u) >> (16 * (at & 3)));
    out[i] = (static_cast<float>(bits) + 0.5f) * (spread / 32768);
  }
}

} // namespace

random_weights::random_weights(uint64_t seed)
    : seed_(seed), threads_(std::min(most_threads, usable_processors())) {}

const void* random_weights::draw(std::string_view name, uint64_t first, size_t count, dtype type) {
  const size_t size = size_of(type);
  values_.resize(count * size);
  const bool bias = name.ends_with(".bias");
  const bool constant = bias || name.find("norm") != std::string_view::npos ||
                        name.find(".ln_") != std::string_view::npos || name.starts_with("ln_");
  const auto key = mixed(seed_ ^ hash_of(name));
  threads_.parallel_for((count + part_values - 1) / part_values, [&](size_t part, size_t) {
    const size_t begin = part * part_values;
    const size_t some = std::min(part_values, count - begin);
    thread_local std::vector<float> floats;
    floats.resize(some);
    if (constant)
      std::fill(floats.begin(), floats.end(), bias ? 0.0f : 1.0f);
    else
      draw_floats(key, first + begin, some, floats.data());
    auto* to = values_.data() + begin * size;
    if (type == dtype::fp32)
      std::copy(floats.begin(), floats.end(), reinterpret_cast<float*>(to));
    else
      cpu::narrow(floats.data(), some, type, to);
  });
  return values_.data();
}

} // namespace troupe::models
