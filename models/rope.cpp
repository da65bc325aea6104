#include "troupe/models/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace troupe::models {

namespace {

constexpr int64_t max_length = int64_t{1} << 26;

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

void read_yarn(const json_file& json, rope_spec& rope, uint32_t max_positions) {
  rope.trained_length = static_cast<uint32_t>(
      json.integer("original_max_position_embeddings", 1, max_length, max_positions));
  rope.factor = json.number("factor", 1e-3, 1e6, double(max_positions) / rope.trained_length);
  // Zero and null ask for the default, as `or` does in transformers.
  auto or_default = [&](const char* key, double fallback) {
    const double x = json.number(key, 0, 1e6, fallback);
    return x > 0 ? x : fallback;
  };
  rope.beta_fast = or_default("beta_fast", 32);
  rope.beta_slow = or_default("beta_slow", 1);
  rope.truncate = json.boolean("truncate", true);
  const double mscale = json.number("mscale", 0, 1e3, 0);
  const double mscale_all = json.number("mscale_all_dim", 0, 1e3, 0);
  const double inferred = mscale > 0 && mscale_all > 0 ? yarn_scale(rope.factor, mscale) /
                                                             yarn_scale(rope.factor, mscale_all)
                                                       : yarn_scale(rope.factor, 1);
  rope.attention_factor = json.number("attention_factor", 0, 1e3, inferred);
}

void read_llama3(const json_file& json, rope_spec& rope, uint32_t max_positions) {
  rope.factor = json.number("factor", 1e-3, 1e6);
  rope.low_freq_factor = json.number("low_freq_factor", 1e-6, 1e6);
  rope.high_freq_factor = json.number("high_freq_factor", 1e-6, 1e6);
  rope.trained_length = static_cast<uint32_t>(
      json.integer("original_max_position_embeddings", 1, max_length, max_positions));
  if (rope.high_freq_factor <= rope.low_freq_factor)
    json.refuse("rope scaling 'llama3' needs high_freq_factor above low_freq_factor");
}

/// Dimension whose wave turns `rotations` times within the trained length.
double correction_dim(const rope_spec& rope, double base, double rotations) {
  return rope.dims * std::log(rope.trained_length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(base));
}

void apply_yarn(const rope_spec& rope, double base, std::vector<float>& frequencies) {
  double low = correction_dim(rope, base, rope.beta_fast);
  double high = correction_dim(rope, base, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rope.dims - 1.0);
  if (low == high)
    high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float turns = 1.0f / frequencies[i];
    const float ramp = std::clamp((static_cast<float>(i) - static_cast<float>(low)) /
                                      static_cast<float>(high - low),
                                  0.0f, 1.0f);
    const float keep = 1 - ramp;
    frequencies[i] =
        1.0f / (static_cast<float>(rope.factor) * turns) * (1 - keep) + frequencies[i] * keep;
  }
}

void apply_llama3(const rope_spec& rope, std::vector<float>& frequencies) {
  const auto low = static_cast<float>(rope.low_freq_factor),
             high = static_cast<float>(rope.high_freq_factor);
  const auto factor = static_cast<float>(rope.factor);
  const auto trained = static_cast<float>(rope.trained_length);
  for (auto& f : frequencies) {
    const float wave = static_cast<float>(2 * std::numbers::pi) / f;
    if (wave < trained / high)
      continue;
    if (wave > trained / low) {
      f /= factor;
    } else {
      const float smooth = (trained / wave - low) / (high - low);
      f = (1 - smooth) * f / factor + smooth * f;
    }
  }
}

} // namespace

rope_spec read_rope(const json_file& json, uint32_t head_size, uint32_t max_positions,
                    double default_base) {
  rope_spec rope;
  rope.dims = head_size;
  rope.trained_length = max_positions;
  rope.base = json.number("rope_theta", 1.0001, 1e12, default_base);
  auto scaling = json.object("rope_parameters");
  if (!scaling)
    scaling = json.object("rope_scaling");
  if (!scaling)
    return rope;
  rope.base = scaling->number("rope_theta", 1.0001, 1e12, rope.base);
  if (scaling->number("partial_rotary_factor", 0, 1, 1) != 1)
    json.refuse("rotating only a part of each head (partial_rotary_factor) is not supported",
                ec::unsupported_model);
  // "type" is the older spelling.
  const auto kind = scaling->text("rope_type", scaling->text("type", "default"));
  if (kind == "default") {
    rope.kind = rope_kind::plain;
  } else if (kind == "linear") {
    rope.kind = rope_kind::linear;
    rope.factor = scaling->number("factor", 1e-3, 1e6);
  } else if (kind == "dynamic") {
    rope.kind = rope_kind::dynamic;
    rope.factor = scaling->number("factor", 1, 1e6);
  } else if (kind == "yarn") {
    rope.kind = rope_kind::yarn;
    read_yarn(*scaling, rope, max_positions);
  } else if (kind == "llama3") {
    rope.kind = rope_kind::llama3;
    read_llama3(*scaling, rope, max_positions);
  } else {
    json.refuse("rope scaling '" + kind +
                    "' is not supported; supported are default, linear, dynamic, yarn, llama3",
                ec::unsupported_model);
  }
  return rope;
}

std::vector<float> inverse_frequencies(const rope_spec& rope, double base) {
  if (base <= 0)
    base = rope.base;
  std::vector<float> frequencies(rope.dims / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rope.dims);
    frequencies[i] = 1.0f / std::pow(static_cast<float>(base), exponent);
  }
  switch (rope.kind) {
  case rope_kind::plain:
  case rope_kind::dynamic:
    break;
  case rope_kind::linear:
    for (auto& f : frequencies)
      f /= static_cast<float>(rope.factor);
    break;
  case rope_kind::yarn:
    apply_yarn(rope, base, frequencies);
    break;
  case rope_kind::llama3:
    apply_llama3(rope, frequencies);
    break;
  }
  return frequencies;
}

double dynamic_base(const rope_spec& rope, uint32_t length) {
  if (length <= rope.trained_length || rope.dims <= 2)
    return rope.base;
  const double dims = rope.dims;
  const double grown = rope.factor * length / rope.trained_length - (rope.factor - 1);
  return rope.base * std::pow(grown, dims / (dims - 2));
}

} // namespace troupe::models
