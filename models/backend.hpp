#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/activation.hpp"
#include "troupe/models/architectures/recipe.hpp"
#include "troupe/models/sampling/sampler.hpp"

/// The few operations that a decoder's layers are made of, and the memory they work on. The CPU is
/// one implementation (cpu_backend.hpp); another device implements the same interface. No tensor
/// library is named here: weights are opaque, activations are views into the backend's memory.
///
/// Letters in shapes: T tokens of the step, H query heads, K key/value heads, D head size, V
/// vocabulary. Every operation must give a row the same bits whatever its neighbours are (see
/// packed_matrix.hpp).
namespace troupe::models {

/// A matrix as a model file holds it, on the host.
struct host_matrix {
  const void* data = nullptr;
  dtype type = dtype::fp32; ///< fp32, bf16 or fp16.
  size_t rows = 0;          ///< Output features, or entries of a table.
  size_t columns = 0;       ///< Input features.
  bool transposed = false;  ///< The bytes are [columns, rows].
};

/// Rows of activations in the backend's memory and element type (fp32 on the CPU).
struct tensor_view {
  void* data = nullptr;
  size_t rows = 0;
  size_t columns = 0;
  size_t stride = 0; ///< Elements from row to row.
};

/// A weight matrix [n, k] with an optional bias [n], in the form that the backend multiplies with.
class linear_weight {
public:
  virtual ~linear_weight() = default;
};

/// Rows to be looked up: an embedding, or learned positions.
class table_weight {
public:
  virtual ~table_weight() = default;
};

/// Weight and bias of a norm. A norm without weight is not among our models.
class norm_weight {
public:
  virtual ~norm_weight() = default;
};

/// Shape of the KV pages of a stage, and of its attention.
struct attention_shape {
  uint32_t layers = 0; ///< Of this stage.
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  uint32_t block_tokens = 0;
  uint32_t blocks = 0;
  float scale = 1;         ///< Of the products of q and k.
  float rotary_factor = 1; ///< Multiplies cosines and sines.
  bool rotary = false;
};

/// A row of a step as the backend sees it.
struct layout_row {
  uint32_t first_token = 0; ///< Into the step's packed tokens.
  uint32_t token_count = 0;
  uint32_t position = 0;            ///< Of the first token.
  const uint32_t* blocks = nullptr; ///< The sequence's block table.
  /// Rotary: angle per position, [D / 2]; lives as long as the sequence.
  std::span<const float> frequencies;
};

/// Scratch matrices that a stage works with; each is one piece of memory that only grows.
enum class scratch : uint8_t {
  hidden,
  normed,
  qkv,
  attended,
  mlp,
  selected,
  logits,
  count
};

/// One row of logits to be turned into a token, or into the log-probability of a known one.
struct draw {
  size_t row = 0;                            ///< Of the logits.
  const sequence_sampler* sampler = nullptr; ///< Null: only `target` is wanted.
  row_wants wants;
  uint32_t position = 0;      ///< Of the token that is drawn.
  int32_t target = -1;        ///< >= 0: add_prompt_logprob of this token.
  row_result* into = nullptr; ///< Draws into the same result are given in order.
};

/// Owns one stage's weights, pages and scratch memory. Used by one thread.
class backend {
public:
  virtual ~backend() = default;

  // --- loading ---

  /// A matrix of zeros. A gated one holds n / 2 gates and then what they gate; only
  /// `linear_activated` takes it. Errors: ec::out_of_memory.
  virtual caf::expected<std::unique_ptr<linear_weight>> make_linear(size_t n, size_t k, bool bias,
                                                                    bool gated) = 0;
  /// Packs `source` as output features [first, first + source.rows); several make a fused matrix.
  virtual void fill_linear(linear_weight& weight, const host_matrix& source, size_t first) = 0;
  virtual void fill_bias(linear_weight& weight, const host_matrix& source, size_t first) = 0;
  virtual caf::expected<std::unique_ptr<table_weight>> make_table(const host_matrix& source) = 0;
  /// A table that reads the rows of a matrix, which must live longer: tied embeddings.
  virtual std::unique_ptr<table_weight> make_table(const linear_weight& source) = 0;
  /// @param bias Null where there is none.
  virtual std::unique_ptr<norm_weight>
  make_norm(norm_kind kind, double epsilon, const host_matrix& weight, const host_matrix* bias) = 0;
  /// Reserves the pages; their memory is taken when they are first written. Errors:
  /// ec::out_of_memory.
  virtual caf::error make_pages(const attention_shape& shape) = 0;
  virtual uint64_t weight_bytes() const = 0;
  virtual uint64_t kv_bytes() const = 0;

  // --- pages ---

  virtual void copy_block(uint32_t from, uint32_t to) = 0;
  /// Moves a block's content to the host's swap area and back.
  virtual void swap_out(uint32_t block, uint32_t host) = 0;
  virtual void swap_in(uint32_t host, uint32_t block) = 0;

  // --- a step ---

  /// A scratch matrix; its content survives until it is asked for with another shape.
  virtual tensor_view matrix(scratch which, size_t rows, size_t columns) = 0;
  /// Rows, positions and block tables of the step that the following calls belong to; they must
  /// stay where they are until the next call.
  virtual void begin_step(std::span<const layout_row> rows,
                          std::span<const uint32_t> positions) = 0;
  /// An activation from another stage; `out` has its shape.
  virtual void receive(const activation& from, tensor_view out) = 0;
  /// Hands activations to another stage.
  virtual activation send(tensor_view from) = 0;
  /// Copies one row to the host in fp32.
  virtual void read_row(tensor_view from, size_t row, std::span<float> out) = 0;

  /// out[t] = table[ids[t]] (+ positions_table[position of t]).
  virtual void embed(const table_weight& table, std::span<const int32_t> ids,
                     const table_weight* positions_table, tensor_view out) = 0;
  virtual void norm(const norm_weight& weight, tensor_view in, tensor_view out) = 0;
  /// out[i] = norm(in[rows[i]]).
  virtual void norm_rows(const norm_weight& weight, tensor_view in, std::span<const uint32_t> rows,
                         tensor_view out) = 0;
  /// out = in * weight + bias, added to what `out` holds if `accumulate`: the residual's place.
  virtual void linear(const linear_weight& weight, tensor_view in, tensor_view out,
                      bool accumulate) = 0;
  /// Splits qkv, [T, (H + 2 K) D], normalises the heads of q and k (norms may be null), rotates
  /// them (rotary models) and writes k and v into the pages of `layer`. q stays in place.
  virtual void rotary_and_store(uint32_t layer, tensor_view qkv, const norm_weight* q_norm,
                                const norm_weight* k_norm) = 0;
  /// Attention of the step's rows over the pages of `layer`. @param window 0 = all positions.
  virtual void attend(uint32_t layer, tensor_view qkv, uint32_t window, tensor_view out) = 0;
  /// With y = in * weight + bias: out = act(y), or, for a gated weight of 2 n columns,
  /// out = act(y[:, :n]) * y[:, n:].
  virtual void linear_activated(const linear_weight& weight, activation_function function,
                                tensor_view in, tensor_view out) = 0;
  /// Samples: `sample_row` and `add_prompt_logprob` of each draw.
  virtual void sample(tensor_view logits, std::span<const draw> draws) = 0;
};

} // namespace troupe::models
