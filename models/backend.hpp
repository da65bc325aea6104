#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/activation.hpp"
#include "troupe/models/architectures/recipe.hpp"
#include "troupe/models/quantization.hpp"
#include "troupe/models/sampling/sampler.hpp"

/// The few operations that a decoder's layers are made of, and the memory they work on. The CPU is
/// one implementation (cpu_backend.hpp), CUDA another (models/cuda). No tensor library is named
/// here: weights are opaque, activations are views into the backend's memory.
///
/// Operations only enqueue: a device works on them later, in order, and a step's results are there
/// when `finish_step` has said so. The CPU has done each when the call returns.
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

/// What a device ran into, thrown by any operation. `code` says what is to become of the stage:
/// ec::device_lost: it is unusable; ec::out_of_memory and ec::step_fault: only this step is void.
class device_failure : public std::runtime_error {
public:
  device_failure(ec code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ec code() const { return code_; }

private:
  ec code_;
};

/// Rows of activations in the backend's memory.
struct tensor_view {
  void* data = nullptr;
  size_t rows = 0;
  size_t columns = 0;
  size_t stride = 0; ///< Elements from row to row.
  dtype type = dtype::fp32;
};

/// What a weight matrix is to be.
struct linear_shape {
  size_t n = 0; ///< Output features.
  size_t k = 0; ///< Input features.
  bool bias = false;
  /// Holds n / 2 gates and then what they gate; only `norm_linear_activated` takes it.
  bool gated = false;
  quantization kept_as = quantization::none;
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
  uint32_t slot = 0; ///< The sequence's dense small number.
};

/// Scratch matrices that a stage works with; each is one piece of memory that only grows.
enum class scratch : uint8_t { hidden, normed, qkv, attended, mlp, selected, logits, count };

/// One row of logits to be turned into a token, or into the log-probability of a known one.
struct draw {
  size_t row = 0;                            ///< Place in step_layout::picked.
  uint32_t layout_row = 0;                   ///< Place in step_layout::rows.
  const sequence_sampler* sampler = nullptr; ///< Null: only `target` is wanted.
  row_wants wants;
  uint32_t position = 0;      ///< Of the token that is drawn.
  int32_t target = -1;        ///< >= 0: add_prompt_logprob of this token.
  row_result* into = nullptr; ///< Draws into the same result are given in order.
};

/// What a step computes. All of it stays where it is until the step's last operation was called;
/// what `draws` point at stays until the step's results are there.
struct step_layout {
  std::span<const layout_row> rows;
  /// Packed, row by row. Negative, in rows of one token only: what the row's sequence drew last
  /// (step.hpp, pending_token).
  std::span<const int32_t> tokens;
  std::span<const uint32_t> positions; ///< [tokens]
  /// Tokens whose hidden state or logits somebody wants. They are answered in groups of
  /// `logits_rows()`.
  std::span<const uint32_t> picked;
  std::span<const draw> draws; ///< In the order of `draw::row`.
  bool reads_rows = false;     ///< `read_row` will be called: the step cannot be recorded.
};

/// A step whose results are awaited.
enum class step_ticket : uint64_t {};

/// Owns one stage's weights, pages and scratch memory. Used by one thread.
class backend {
public:
  virtual ~backend() = default;

  // --- loading ---

  /// A matrix of zeros. Errors: ec::out_of_memory.
  virtual caf::expected<std::unique_ptr<linear_weight>> make_linear(const linear_shape& shape) = 0;
  /// Packs `source` as output features [first, first + source.rows); several make a fused matrix.
  /// Slices of one stored matrix are of a multiple of 64 rows, but for the last.
  virtual void fill_linear(linear_weight& weight, const host_matrix& source, size_t first) = 0;
  virtual void fill_bias(linear_weight& weight, const host_matrix& source, size_t first) = 0;
  virtual caf::expected<std::unique_ptr<table_weight>> make_table(const host_matrix& source) = 0;
  /// A table that reads the rows of a matrix, which must live longer: tied embeddings.
  /// @pre It is not quantized.
  virtual std::unique_ptr<table_weight> make_table(const linear_weight& source) = 0;
  /// @param bias Null where there is none.
  virtual std::unique_ptr<norm_weight>
  make_norm(norm_kind kind, double epsilon, const host_matrix& weight, const host_matrix* bias) = 0;
  /// Reserves the pages; their memory is taken when they are first written. Errors:
  /// ec::out_of_memory.
  virtual caf::error make_pages(const attention_shape& shape) = 0;
  /// All weights are there.
  virtual void loaded() {}
  virtual uint64_t weight_bytes() const = 0;
  virtual uint64_t kv_bytes() const = 0;

  // --- pages and sequences ---

  virtual void copy_block(uint32_t from, uint32_t to) = 0;
  /// Moves a block's content to the host's swap area and back.
  virtual void swap_out(uint32_t block, uint32_t host) = 0;
  virtual void swap_in(uint32_t host, uint32_t block) = 0;
  /// A sequence begins, or begins again, in a slot; whoever had it before is gone. Called before
  /// the step that brought it. The CPU keeps nothing by slot.
  /// @param frequencies As in layout_row. @param samples The last stage: sampling is wanted too.
  virtual void start_sequence(uint32_t slot, const sequence_start& start,
                              std::span<const float> frequencies, bool samples) {
    (void)slot, (void)start, (void)frequencies, (void)samples;
  }
  /// The sequence's block table goes on with `blocks` at its entry `first`.
  virtual void extend_table(uint32_t slot, size_t first, std::span<const uint32_t> blocks) {
    (void)slot, (void)first, (void)blocks;
  }

  // --- a step ---

  /// A scratch matrix; its content survives until it is asked for with another shape.
  virtual tensor_view matrix(scratch which, size_t rows, size_t columns) = 0;
  /// Takes in the step that the following calls belong to.
  /// @returns Rows of the matrices of this step: the tokens, and what the device adds to fill up.
  virtual size_t begin_step(const step_layout& layout) = 0;
  /// Rows of logits that are computed at once.
  virtual size_t logits_rows() const = 0;
  /// Rows of the group of picked tokens that begins at `first`, what fills it up included.
  virtual size_t group_rows(size_t first) const = 0;
  /// Runs everything from `embed` to `sample` from a recording of an earlier step of the same
  /// shape. False: the caller calls the operations, then `end_pass`.
  virtual bool replay() { return false; }
  virtual void end_pass() {}
  /// Whether there are steps that `rehearse` can prepare for.
  virtual bool has_rehearsals() const { return false; }
  /// Takes the place of `begin_step` for a step without any sequence, whose operations prepare the
  /// device for steps of its shape. The caller goes on as after `begin_step`, all rows picked.
  /// @returns Rows of the matrices of this step. @pre has_rehearsals()
  virtual size_t rehearse() { return 0; }
  /// Nothing more belongs to this step. @param done May be null; called once, from any thread, when
  /// `wait` will not block.
  virtual step_ticket finish_step(std::function<void()> done) = 0;
  /// Waits for a step and fills the results of its draws. Each ticket once, in their order.
  virtual void wait(step_ticket ticket) = 0;
  /// How long the device was busy with the step last waited for; 0 = it cannot tell.
  virtual uint64_t device_ns() const { return 0; }
  /// Whether `finish_step` returns long before the step is done.
  virtual bool runs_ahead() const { return false; }

  /// An activation from another stage; `out` has its columns and at least its rows. Outside of
  /// what `replay` runs, as `send`.
  virtual void receive(const activation& from, tensor_view out) = 0;
  /// Hands the first `rows` activations to another stage.
  virtual activation send(tensor_view from, size_t rows) = 0;
  /// Copies one row to the host in fp32; waits for it.
  virtual void read_row(tensor_view from, size_t row, std::span<float> out) = 0;

  /// out[t] = table[token t of the step] (+ positions_table[position of t]).
  virtual void embed(const table_weight& table, const table_weight* positions_table,
                     tensor_view out) = 0;
  /// out[i] = norm(in[picked token first + i]).
  virtual void norm_picked(const norm_weight& weight, tensor_view in, size_t first,
                           tensor_view out) = 0;
  /// out = in * weight + bias, added to what `out` holds if `accumulate`: the residual's place.
  virtual void linear(const linear_weight& weight, tensor_view in, tensor_view out,
                      bool accumulate) = 0;
  /// out = norm(in) * weight + bias. @param normed Room for the normalised rows.
  virtual void norm_linear(const norm_weight& norm, const linear_weight& weight, tensor_view in,
                           tensor_view normed, tensor_view out) = 0;
  /// With y = norm(in) * weight + bias: out = act(y), or, for a gated weight of 2 n columns,
  /// out = act(y[:, :n]) * y[:, n:].
  virtual void norm_linear_activated(const norm_weight& norm, const linear_weight& weight,
                                     activation_function function, tensor_view in,
                                     tensor_view normed, tensor_view out) = 0;
  /// Splits qkv, [T, (H + 2 K) D], normalises the heads of q and k (norms may be null), rotates
  /// them (rotary models), writes k and v into the pages of `layer`, and gives the attention of the
  /// step's rows over those pages. @param window 0 = all positions.
  virtual void attention(uint32_t layer, tensor_view qkv, const norm_weight* q_norm,
                         const norm_weight* k_norm, uint32_t window, tensor_view out) = 0;
  /// The draws of the group of picked tokens that begins at `first`, whose logits these are:
  /// `sample_row` and `add_prompt_logprob` of each.
  virtual void sample(tensor_view logits, size_t first) = 0;
};

} // namespace troupe::models
