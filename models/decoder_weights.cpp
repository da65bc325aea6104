#include "troupe/models/decoder_weights.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <span>

#include "troupe/models/loading/random_weights.hpp"

namespace troupe::models {

namespace {

/// Mapped bytes that are packed before their pages are given back.
constexpr size_t slice_bytes = 8 << 20;

dtype element_of(tensor_type t) {
  return t == tensor_type::bf16 ? dtype::bf16 : t == tensor_type::f16 ? dtype::fp16 : dtype::fp32;
}

/// One stored matrix or vector that goes into a fused weight.
struct part {
  std::string name;
  size_t rows; ///< Output features.
};

/// Loads weight after weight; the first failure stays in `error` and the rest are skipped.
class loader {
public:
  loader(const decoder_model& model, backend& device, const load_progress& progress,
         quantization quantized, uint64_t random_seed)
      : model_(model), device_(device), progress_(progress), quantized_(quantized) {
    if (!model.weights.tensors().empty())
      return;
    random_.emplace(random_seed);
    for (auto& w : required_weights(model))
      shapes_.emplace(std::move(w.name), std::move(w.shape));
  }

  void expect(uint64_t bytes) { total_ = bytes; }

  std::unique_ptr<linear_weight> linear(std::span<const part> parts, size_t k, bool bias,
                                        bool transposed, bool gated = false) {
    if (error_)
      return nullptr;
    size_t n = 0;
    for (const auto& p : parts)
      n += p.rows;
    auto made =
        device_.make_linear({.n = n, .k = k, .bias = bias, .gated = gated, .kept_as = quantized_});
    if (!made) {
      error_ = made.error();
      return nullptr;
    }
    size_t first = 0;
    for (const auto& p : parts) {
      pack(**made, p.name + ".weight", first, p.rows, k, transposed);
      if (bias)
        whole(p.name + ".bias", [&](const host_matrix& m) { device_.fill_bias(**made, m, first); });
      first += p.rows;
    }
    return error_ ? nullptr : std::move(*made);
  }

  std::unique_ptr<linear_weight> linear(std::string_view pattern, uint32_t layer, size_t n,
                                        size_t k, bool bias) {
    const part one[] = {{model_.name(pattern, layer), n}};
    return linear(one, k, bias, model_.recipe->transposed);
  }

  std::unique_ptr<linear_weight> head(const std::string& weight, size_t n, size_t k) {
    if (error_)
      return nullptr;
    auto made = device_.make_linear({.n = n, .k = k});
    if (!made) {
      error_ = made.error();
      return nullptr;
    }
    pack(**made, weight, 0, n, k, false);
    return error_ ? nullptr : std::move(*made);
  }

  std::unique_ptr<table_weight> table(const std::string& name) {
    std::unique_ptr<table_weight> result;
    whole(name, [&](const host_matrix& m) {
      if (auto made = device_.make_table(m))
        result = std::move(*made);
      else
        error_ = made.error();
    });
    return result;
  }

  std::unique_ptr<norm_weight> norm(std::string_view pattern, uint32_t layer = 0) {
    if (pattern.empty())
      return nullptr;
    const auto name = model_.name(pattern, layer);
    std::unique_ptr<norm_weight> result;
    whole(name + ".weight", [&](const host_matrix& weight) {
      const auto make = [&](const host_matrix* bias) {
        result = device_.make_norm(model_.recipe->norm, model_.config.norm_epsilon, weight, bias);
      };
      if (model_.recipe->norm == norm_kind::layer)
        whole(name + ".bias", [&](const host_matrix& bias) { make(&bias); });
      else
        make(nullptr);
    });
    return result;
  }

  const caf::error& error() const { return error_; }

private:
  /// Hands a whole tensor to `use`.
  template <class Use>
  void whole(const std::string& name, Use&& use) {
    if (error_)
      return;
    if (random_) {
      const auto& shape = shapes_.at(name);
      const size_t rows = shape.size() > 1 ? shape[0] : 1;
      const auto type = model_.config.stored;
      use(host_matrix{.data = random_->draw(name, 0, rows * shape.back(), type),
                      .type = type,
                      .rows = rows,
                      .columns = shape.back()});
      advance(rows * shape.back() * size_of(type));
      return;
    }
    const auto& t = model_.at(name);
    use(host_matrix{.data = t.data(),
                    .type = element_of(t.type),
                    .rows = t.shape.size() > 1 ? t.shape[0] : 1,
                    .columns = t.shape.back()});
    finish(t, name, 0, t.bytes);
  }

  void pack(linear_weight& weight, const std::string& name, size_t first, size_t n, size_t k,
            bool transposed) {
    if (error_)
      return;
    if (random_) {
      pack_random(weight, name, first, n, k);
      return;
    }
    const auto& t = model_.at(name);
    const auto type = element_of(t.type);
    t.file->prefetch(t.offset, t.bytes);
    if (transposed) {
      device_.fill_linear(weight, {t.data(), type, n, k, true}, first);
      finish(t, name, 0, t.bytes);
      return;
    }
    const size_t row_bytes = k * size_of(type);
    const size_t slice = slice_rows(row_bytes);
    for (size_t row = 0; row < n && !error_; row += slice) {
      const size_t rows = std::min(slice, n - row);
      device_.fill_linear(weight, {t.data() + row * row_bytes, type, rows, k, false}, first + row);
      finish(t, name, row * row_bytes, rows * row_bytes);
    }
  }

  /// Whether the file would hold it transposed is all the same to random values.
  void pack_random(linear_weight& weight, const std::string& name, size_t first, size_t n,
                   size_t k) {
    const auto type = model_.config.stored;
    const size_t slice = slice_rows(k * size_of(type));
    for (size_t row = 0; row < n; row += slice) {
      const size_t rows = std::min(slice, n - row);
      device_.fill_linear(weight,
                          {random_->draw(name, row * k, rows * k, type), type, rows, k, false},
                          first + row);
      advance(rows * k * size_of(type));
    }
  }

  /// Whole panels of 32 rows and whole blocks of fp4, so that no two slices share one.
  static size_t slice_rows(size_t row_bytes) {
    return std::max<size_t>(fp4_block, slice_bytes / row_bytes / fp4_block * fp4_block);
  }

  void finish(const stored_tensor& t, const std::string& name, size_t offset, size_t bytes) {
    if (!error_ && !t.file->intact())
      error_ =
          caf::make_error(ec::bad_model, "'" + t.file->path() + "' was truncated while tensor '" +
                                             name + "' was read: fetch it again");
    t.file->release(t.offset + offset, bytes);
    advance(bytes);
  }

  void advance(uint64_t bytes) {
    done_ += bytes;
    if (progress_)
      progress_(std::min(done_, total_), total_);
  }

  const decoder_model& model_;
  backend& device_;
  const load_progress& progress_;
  quantization quantized_;
  std::optional<random_weights> random_; ///< Where there are no files.
  std::map<std::string, std::vector<uint64_t>> shapes_;
  caf::error error_;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

decoder_layer load_layer(loader& load, const decoder_model& model, uint32_t layer) {
  const auto& c = model.config;
  const auto& names = model.recipe->names;
  decoder_layer l;
  l.attention_norm = load.norm(names.attention_norm, layer);
  if (names.qkv.size() == 1) {
    l.qkv = load.linear(names.qkv[0], layer, c.q_width() + size_t{2} * c.kv_width(), c.hidden,
                        c.qkv_bias);
  } else {
    const part parts[] = {{model.name(names.qkv[0], layer), c.q_width()},
                          {model.name(names.qkv[1], layer), c.kv_width()},
                          {model.name(names.qkv[2], layer), c.kv_width()}};
    l.qkv = load.linear(parts, c.hidden, c.qkv_bias, model.recipe->transposed);
  }
  l.q_norm = load.norm(names.q_norm, layer);
  l.k_norm = load.norm(names.k_norm, layer);
  l.out = load.linear(names.out, layer, c.hidden, c.q_width(), c.out_bias);
  l.mlp_norm = load.norm(names.mlp_norm, layer);
  if (model.recipe->gated()) {
    const part parts[] = {{model.name(names.gate, layer), c.intermediate},
                          {model.name(names.up, layer), c.intermediate}};
    l.up = load.linear(parts, c.hidden, c.mlp_bias, model.recipe->transposed, true);
  } else {
    l.up = load.linear(names.up, layer, c.intermediate, c.hidden, c.mlp_bias);
  }
  l.down = load.linear(names.down, layer, c.hidden, c.intermediate, c.mlp_bias);
  return l;
}

/// Bytes on file that a stage reads, for the progress display.
uint64_t bytes_to_read(const decoder_model& model, const layer_range& range) {
  if (model.weights.tensors().empty()) {
    const uint64_t table = uint64_t{model.config.vocabulary} * model.config.hidden;
    return (model.layer_parameters() * range.count() + (range.begins ? table : 0) +
            (range.ends ? table : 0)) *
           size_of(model.config.stored);
  }
  const auto layer_bytes = [&](std::string_view pattern, std::string_view suffix, uint32_t layer) {
    const auto* t = model.weights.find(model.name(pattern, layer) + std::string{suffix});
    return t != nullptr ? t->bytes : 0;
  };
  const auto& names = model.recipe->names;
  uint64_t sum = 0;
  for (uint32_t i = range.first; i < range.last; ++i) {
    for (auto suffix : {".weight", ".bias"}) {
      for (auto pattern : {names.attention_norm, names.q_norm, names.k_norm, names.out,
                           names.mlp_norm, names.gate, names.up, names.down})
        if (!pattern.empty())
          sum += layer_bytes(pattern, suffix, i);
      for (auto pattern : names.qkv)
        sum += layer_bytes(pattern, suffix, i);
    }
  }
  const auto embedding = layer_bytes(names.embedding, "", 0);
  if (range.begins)
    sum += layer_bytes(names.positions, "", 0) + (range.ends && model.config.tied ? 0 : embedding);
  if (range.ends)
    sum += model.config.tied ? embedding : model.at(std::string{names.head}).bytes;
  return sum;
}

} // namespace

caf::expected<decoder_weights> load_weights(const decoder_model& model, const layer_range& range,
                                            backend& device, const load_progress& progress,
                                            quantization quantized, uint64_t random_seed) {
  const auto& c = model.config;
  const auto& names = model.recipe->names;
  loader load{model, device, progress, quantized, random_seed};
  load.expect(bytes_to_read(model, range));
  decoder_weights w;
  for (uint32_t layer = range.first; layer < range.last && !load.error(); ++layer)
    w.layers.push_back(load_layer(load, model, layer));
  if (range.ends) {
    w.final_norm = load.norm(names.final_norm);
    w.head = load.head(c.tied ? model.name(names.embedding) : std::string{names.head}, c.vocabulary,
                       c.hidden);
  }
  if (range.begins) {
    if (range.ends && c.tied && !load.error())
      w.embedding = device.make_table(*w.head);
    else
      w.embedding = load.table(model.name(names.embedding));
    if (!names.positions.empty())
      w.positions = load.table(model.name(names.positions));
  }
  if (load.error())
    return load.error();
  return w;
}

} // namespace troupe::models
