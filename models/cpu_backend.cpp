#include "troupe/models/cpu_backend.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include <sys/mman.h>

#include "troupe/models/cpu/attention.hpp"
#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cpu/elementwise.hpp"
#include "troupe/models/cpu/packed_matrix.hpp"

namespace troupe::models {

namespace {

/// Rows of logits that are computed at once: the weight is streamed once for so many, and prompt
/// log-probabilities of a long prompt take no more memory than this.
constexpr size_t rows_at_once = 64;

float* floats(tensor_view v) {
  return static_cast<float*>(v.data);
}

std::vector<float> widened(const host_matrix& source) {
  std::vector<float> out(source.rows * source.columns);
  cpu::widen(source.type, source.data, out.size(), out.data());
  return out;
}

cpu::activation_kind kernel_of(activation_function f) {
  switch (f) {
  case activation_function::silu:
    return cpu::activation_kind::silu;
  case activation_function::gelu:
    return cpu::activation_kind::gelu;
  case activation_function::gelu_tanh:
    return cpu::activation_kind::gelu_tanh;
  case activation_function::relu:
    return cpu::activation_kind::relu;
  }
  return cpu::activation_kind::silu;
}

struct cpu_linear final : linear_weight {
  cpu::packed_matrix matrix;
  std::vector<float> bias; ///< Empty: none.
};

struct cpu_table final : table_weight {
  const cpu_linear* tied = nullptr; ///< Rows out of a packed matrix, or else:
  std::vector<std::byte> rows;
  dtype type = dtype::fp32;
};

struct cpu_norm final : norm_weight {
  norm_kind kind = norm_kind::rms;
  float epsilon = 0;
  std::vector<float> weight;
  std::vector<float> bias;
};

/// Buffers that travel between stages, used again when the last reader lets go of them, on whatever
/// thread that happens.
class passed_buffers : public std::enable_shared_from_this<passed_buffers> {
public:
  using buffer = std::vector<float>;

  buffer take() {
    std::lock_guard guard{mutex_};
    if (free_.empty())
      return {};
    auto b = std::move(free_.back());
    free_.pop_back();
    return b;
  }

  void give(buffer&& b) {
    std::lock_guard guard{mutex_};
    if (free_.size() < 8)
      free_.push_back(std::move(b));
  }

private:
  std::mutex mutex_;
  std::vector<buffer> free_;
};

class passed_storage final : public activation::storage {
public:
  passed_storage(std::shared_ptr<passed_buffers> home, passed_buffers::buffer data)
      : home_(std::move(home)), data_(std::move(data)) {}
  ~passed_storage() override { home_->give(std::move(data_)); }
  const std::byte* host_bytes() override {
    return reinterpret_cast<const std::byte*>(data_.data());
  }
  void* native() override { return data_.data(); }

private:
  std::shared_ptr<passed_buffers> home_;
  passed_buffers::buffer data_;
};

/// The KV pages of a stage in one anonymous mapping, block by block with all layers of a block side
/// by side, so that copying and swapping a block is one piece.
class page_pool {
public:
  ~page_pool() {
    if (base_ != nullptr)
      ::munmap(base_, bytes_);
  }

  caf::error make(const attention_shape& shape, dtype type) {
    layout_ = {.kv_heads = shape.kv_heads,
               .head_size = shape.head_size,
               .block_tokens = shape.block_tokens,
               .type = type};
    block_bytes_ = layout_.block_bytes() * shape.layers;
    bytes_ = block_bytes_ * shape.blocks;
    if (bytes_ == 0)
      return {};
    // Not reserved: pages cost memory when a sequence first writes them.
    void* base = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
      const auto wanted = std::to_string(bytes_ >> 20);
      bytes_ = 0;
      return caf::make_error(ec::out_of_memory,
                             "the system gives no " + wanted +
                                 " MiB of address space for the KV cache: lower its size");
    }
    base_ = static_cast<std::byte*>(base);
    return {};
  }

  cpu::kv_pages of_layer(uint32_t layer) const {
    return {.layout = layout_,
            .base = base_ + layer * layout_.block_bytes(),
            .block_stride = block_bytes_};
  }
  std::byte* block(uint32_t index) const { return base_ + size_t{index} * block_bytes_; }
  size_t block_bytes() const { return block_bytes_; }
  size_t bytes() const { return bytes_; }

private:
  cpu::kv_layout layout_;
  std::byte* base_ = nullptr;
  size_t block_bytes_ = 0;
  size_t bytes_ = 0;
};

class cpu_backend final : public backend {
public:
  cpu_backend(const cpu_backend_options& options, cpu::isa level)
      : where_(options.threads, level), storage_(options.compute) {}

  caf::expected<std::unique_ptr<linear_weight>> make_linear(const linear_shape& shape) override {
    auto w = std::make_unique<cpu_linear>();
    w->matrix =
        cpu::packed_matrix{arena_, shape.n, shape.k, cpu::format_of(storage_, shape.kept_as),
                           shape.gated ? cpu::column_order::gated : cpu::column_order::plain};
    if (w->matrix.empty())
      return caf::make_error(ec::out_of_memory, "no memory for a weight of " +
                                                    std::to_string(shape.n) + " x " +
                                                    std::to_string(shape.k));
    if (shape.bias)
      w->bias.resize(shape.n);
    bytes_ += w->matrix.byte_size() + w->bias.size() * sizeof(float);
    return std::unique_ptr<linear_weight>{std::move(w)};
  }

  void fill_linear(linear_weight& weight, const host_matrix& source, size_t first) override {
    auto& w = static_cast<cpu_linear&>(weight);
    w.matrix.pack(where_,
                  {.data = source.data,
                   .type = source.type,
                   .n = source.rows,
                   .k = source.columns,
                   .transposed = source.transposed,
                   .stride = 0},
                  first);
  }

  void fill_bias(linear_weight& weight, const host_matrix& source, size_t first) override {
    auto& w = static_cast<cpu_linear&>(weight);
    cpu::widen(source.type, source.data, source.rows * source.columns, w.bias.data() + first);
  }

  caf::expected<std::unique_ptr<table_weight>> make_table(const host_matrix& source) override {
    auto t = std::make_unique<cpu_table>();
    const size_t count = source.rows * source.columns;
    // Lookups read single rows, so the file's own (mostly smaller) type serves as it is, unless
    // bf16 was asked for: then the values are those of a bf16 weight.
    t->type = storage_ == dtype::bf16 ? dtype::bf16 : source.type;
    t->rows.resize(count * size_of(t->type));
    if (t->type == source.type) {
      std::memcpy(t->rows.data(), source.data, t->rows.size());
    } else {
      std::vector<float> row(source.columns);
      for (size_t i = 0; i < source.rows; ++i) {
        const auto* from =
            static_cast<const std::byte*>(source.data) + i * row.size() * size_of(source.type);
        cpu::widen(source.type, from, row.size(), row.data());
        cpu::narrow(row.data(), row.size(), t->type,
                    t->rows.data() + i * row.size() * size_of(t->type));
      }
    }
    bytes_ += t->rows.size();
    return std::unique_ptr<table_weight>{std::move(t)};
  }

  std::unique_ptr<table_weight> make_table(const linear_weight& source) override {
    auto t = std::make_unique<cpu_table>();
    t->tied = &static_cast<const cpu_linear&>(source);
    return t;
  }

  std::unique_ptr<norm_weight> make_norm(norm_kind kind, double epsilon, const host_matrix& weight,
                                         const host_matrix* bias) override {
    auto n = std::make_unique<cpu_norm>();
    n->kind = kind;
    n->epsilon = static_cast<float>(epsilon);
    n->weight = widened(weight);
    if (bias != nullptr)
      n->bias = widened(*bias);
    bytes_ += (n->weight.size() + n->bias.size()) * sizeof(float);
    return n;
  }

  caf::error make_pages(const attention_shape& shape) override {
    shape_ = shape;
    return pages_.make(shape, storage_);
  }

  uint64_t weight_bytes() const override { return bytes_; }
  uint64_t kv_bytes() const override { return pages_.bytes(); }

  void copy_block(uint32_t from, uint32_t to) override {
    std::memcpy(pages_.block(to), pages_.block(from), pages_.block_bytes());
  }

  void swap_out(uint32_t block, uint32_t host) override {
    auto& place = swapped_[host];
    place.assign(pages_.block(block), pages_.block(block) + pages_.block_bytes());
  }

  void swap_in(uint32_t host, uint32_t block) override {
    if (auto found = swapped_.find(host); found != swapped_.end()) {
      std::memcpy(pages_.block(block), found->second.data(), found->second.size());
      swapped_.erase(found);
    }
  }

  tensor_view matrix(scratch which, size_t rows, size_t columns) override {
    auto& buffer = scratch_[static_cast<size_t>(which)];
    return {buffer.reserve(std::max<size_t>(rows * columns, 1) * sizeof(float)), rows, columns,
            columns, dtype::fp32};
  }

  size_t begin_step(const step_layout& layout) override {
    layout_ = layout;
    rows_.clear();
    for (const auto& r : layout.rows)
      rows_.push_back({.first_token = r.first_token,
                       .token_count = r.token_count,
                       .position = r.position,
                       .blocks = r.blocks});
    if (shape_.rotary) {
      const size_t half = shape_.head_size / 2;
      cosines_.resize(layout.positions.size() * half);
      sines_.resize(layout.positions.size() * half);
      for (const auto& r : layout.rows)
        cpu::rotary_table(layout.positions.subspan(r.first_token, r.token_count), r.frequencies,
                          shape_.rotary_factor, cosines_.data() + r.first_token * half,
                          sines_.data() + r.first_token * half);
    }
    return layout.tokens.size();
  }

  size_t logits_rows() const override { return rows_at_once; }
  size_t group_rows(size_t first) const override {
    return std::min(rows_at_once, layout_.picked.size() - first);
  }

  step_ticket finish_step(std::function<void()> done) override {
    if (done)
      done();
    return {};
  }
  void wait(step_ticket) override {}

  void receive(const activation& from, tensor_view out) override {
    std::memcpy(out.data, from.data()->host_bytes(), from.byte_size());
  }

  activation send(tensor_view from, size_t rows) override {
    auto buffer = passed_->take();
    buffer.assign(floats(from), floats(from) + rows * from.columns);
    return {dtype::fp32, static_cast<int64_t>(rows), static_cast<int64_t>(from.columns),
            std::make_shared<passed_storage>(passed_, std::move(buffer))};
  }

  void read_row(tensor_view from, size_t row, std::span<float> out) override {
    std::copy_n(floats(from) + row * from.stride, out.size(), out.data());
  }

  void embed(const table_weight& table, const table_weight* positions_table,
             tensor_view out) override {
    const auto ids = layout_.tokens;
    const auto positions = layout_.positions;
    const auto& t = static_cast<const cpu_table&>(table);
    const auto* p = static_cast<const cpu_table*>(positions_table);
    if (t.tied == nullptr) {
      cpu::embed(where_, t.rows.data(), t.type, ids, out.columns, floats(out), out.stride,
                 p != nullptr ? p->rows.data() : nullptr, p != nullptr ? p->type : dtype::fp32,
                 positions);
      return;
    }
    cpu::gather_rows(where_, t.tied->matrix, ids, floats(out), out.stride);
    if (p == nullptr)
      return;
    row_.resize(out.columns);
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto* from = p->rows.data() + positions[i] * out.columns * size_of(p->type);
      cpu::widen(p->type, from, row_.size(), row_.data());
      for (size_t c = 0; c < row_.size(); ++c)
        floats(out)[i * out.stride + c] += row_[c];
    }
  }

  void norm_picked(const norm_weight& weight, tensor_view in, size_t first,
                   tensor_view out) override {
    for (size_t i = 0; i < out.rows; ++i)
      std::copy_n(floats(in) + layout_.picked[first + i] * in.stride, in.columns,
                  floats(out) + i * out.stride);
    norm(weight, out, out);
  }

  void linear(const linear_weight& weight, tensor_view in, tensor_view out,
              bool accumulate) override {
    const auto& w = static_cast<const cpu_linear&>(weight);
    auto p = product_of(w, in, out);
    if (accumulate) {
      p.residual = floats(out);
      p.residual_stride = out.stride;
    }
    cpu::multiply(where_, w.matrix, p);
  }

  void norm_linear(const norm_weight& by, const linear_weight& weight, tensor_view in,
                   tensor_view normed, tensor_view out) override {
    norm(by, in, normed);
    linear(weight, normed, out, false);
  }

  void norm_linear_activated(const norm_weight& by, const linear_weight& weight,
                             activation_function function, tensor_view in, tensor_view normed,
                             tensor_view out) override {
    norm(by, in, normed);
    linear_activated(weight, function, normed, out);
  }

  void attention(uint32_t layer, tensor_view qkv, const norm_weight* q_norm,
                 const norm_weight* k_norm, uint32_t window, tensor_view out) override {
    rotary_and_store(layer, qkv, q_norm, k_norm);
    cpu::attend(where_, pages_.of_layer(layer), rows_,
                {.q = floats(qkv),
                 .q_stride = qkv.stride,
                 .heads = shape_.heads,
                 .scale = shape_.scale,
                 .window = window,
                 .out = floats(out),
                 .out_stride = out.stride});
  }

  void sample(tensor_view logits, size_t first) override;

private:
  void norm(const norm_weight& weight, tensor_view in, tensor_view out) {
    norm_input(weight,
               {.x = floats(in), .x_stride = in.stride, .rows = in.rows, .width = in.columns}, out);
  }

  void rotary_and_store(uint32_t layer, tensor_view qkv, const norm_weight* q_norm,
                        const norm_weight* k_norm) {
    const size_t d = shape_.head_size;
    float* q = floats(qkv);
    float* k = q + shape_.heads * d;
    float* v = k + shape_.kv_heads * d;
    const cpu::head_rows q_heads{q, qkv.stride, qkv.rows, shape_.heads, d};
    const cpu::head_rows k_heads{k, qkv.stride, qkv.rows, shape_.kv_heads, d};
    if (q_norm != nullptr)
      head_norm(*q_norm, q_heads);
    if (k_norm != nullptr)
      head_norm(*k_norm, k_heads);
    if (shape_.rotary) {
      cpu::rotary(where_, q_heads, cosines_.data(), sines_.data(), d / 2, false);
      cpu::rotary(where_, k_heads, cosines_.data(), sines_.data(), d / 2, false);
    }
    cpu::write_kv(where_, pages_.of_layer(layer), rows_, k, qkv.stride, v, qkv.stride);
  }

  void linear_activated(const linear_weight& weight, activation_function function, tensor_view in,
                        tensor_view out) {
    const auto& w = static_cast<const cpu_linear&>(weight);
    auto p = product_of(w, in, out);
    const bool gated = w.matrix.order() == cpu::column_order::gated;
    if (gated)
      p.gate = kernel_of(function);
    cpu::multiply(where_, w.matrix, p);
    if (!gated)
      cpu::activate(where_, kernel_of(function), floats(out), out.stride, out.rows, out.columns,
                    floats(out), out.stride);
  }

  static cpu::product product_of(const cpu_linear& w, tensor_view in, tensor_view out) {
    return {.x = floats(in),
            .x_stride = in.stride,
            .m = in.rows,
            .out = floats(out),
            .out_stride = out.stride,
            .bias = w.bias.empty() ? nullptr : w.bias.data()};
  }

  void head_norm(const norm_weight& weight, const cpu::head_rows& heads) {
    const auto& n = static_cast<const cpu_norm&>(weight);
    cpu::head_norm(where_, heads, n.weight.data(), n.epsilon);
  }

  void norm_input(const norm_weight& weight, const cpu::norm_input& in, tensor_view out) {
    const auto& n = static_cast<const cpu_norm&>(weight);
    if (n.kind == norm_kind::rms)
      cpu::rms_norm(where_, in, n.weight.data(), n.epsilon, floats(out), out.stride);
    else
      cpu::layer_norm(where_, in, n.weight.data(), n.bias.empty() ? nullptr : n.bias.data(),
                      n.epsilon, floats(out), out.stride);
  }

  cpu::context where_;
  dtype storage_;
  cpu::weight_arena arena_;
  uint64_t bytes_ = 0;
  attention_shape shape_;
  page_pool pages_;
  std::unordered_map<uint32_t, std::vector<std::byte>> swapped_;
  std::array<cpu::scratch_buffer, static_cast<size_t>(scratch::count)> scratch_;
  std::shared_ptr<passed_buffers> passed_ = std::make_shared<passed_buffers>();
  // The step.
  step_layout layout_;
  std::vector<cpu::attention_row> rows_;
  std::vector<float> cosines_, sines_;
  std::vector<float> row_;
};

void cpu_backend::sample(tensor_view logits, size_t first) {
  const auto begin = std::find_if(layout_.draws.begin(), layout_.draws.end(),
                                  [&](auto& d) { return d.row >= first; });
  const auto end = std::find_if(begin, layout_.draws.end(),
                                [&](auto& d) { return d.row >= first + logits.rows; });
  const std::span<const draw> draws{begin, end};
  // One part per result, so that no two threads write into the same one.
  std::vector<size_t> starts;
  for (size_t i = 0; i < draws.size(); ++i)
    if (i == 0 || draws[i].into != draws[i - 1].into)
      starts.push_back(i);
  starts.push_back(draws.size());
  auto one = [&](const draw& d) {
    const std::span<const float> row{floats(logits) + (d.row - first) * logits.stride,
                                     logits.columns};
    if (d.into->fault != ec::none)
      return;
    if (d.target >= 0)
      add_prompt_logprob(row, d.target, d.wants.top_n, *d.into);
    if (d.sampler != nullptr && d.into->fault == ec::none) {
      take_drawn(sample_row(row, *d.sampler, d.wants, d.position), *d.into);
    }
  };
  where_.pool().parallel_for(starts.size() - 1, [&](size_t part, size_t) {
    for (size_t i = starts[part]; i < starts[part + 1]; ++i) {
      // The pool's threads must not see an exception; the only one possible is lack of memory.
      try {
        one(draws[i]);
      } catch (const std::exception& x) {
        draws[i].into->fault = ec::row_fault;
        draws[i].into->fault_text = std::string{"sampling failed: "} + x.what();
      }
    }
  });
}

} // namespace

caf::expected<std::unique_ptr<backend>> make_cpu_backend(const cpu_backend_options& options) {
  const auto choice = cpu::isa_from_environment();
  if (!choice.problem.empty())
    return caf::make_error(ec::bad_option, choice.problem);
  return std::unique_ptr<backend>{std::make_unique<cpu_backend>(options, choice.level)};
}

} // namespace troupe::models
