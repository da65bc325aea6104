#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "troupe/models/quantization.hpp"

/// The CUDA kernels of a decoder, as plain functions that enqueue work and return at once. They
/// keep no state, allocate nothing and never wait for the device.
///
/// Letters in shapes: T tokens of the step, R rows (a row is the tokens of one sequence), H query
/// heads, K key/value heads, D head size, n output and k input features, V vocabulary. "Compute
/// type" is the one element type of weights, pages and GEMM inputs; the residual stream `hidden`,
/// biases, norm weights and logits are always fp32, and so is every sum.
///
/// What changes from step to step is read from device memory, so that a launch can be captured in a
/// CUDA graph and replayed: T and R are the bucket's sizes, and padding is marked in the arrays.
///
/// Unless a function says otherwise: pointers are device memory; matrices are row-major with a
/// stride in elements; pointers are aligned to 16 bytes and strides are multiples of 16 bytes where
/// the fast paths should serve (anything aligned to its element gives the same result, slower); an
/// input must not overlap an output. The same arguments give the same bits, with and without a
/// graph. Threading: any thread, for a stream that one thread at a time uses.
///
/// Errors: that of the launch (cudaGetLastError()); a fault while running shows up at the stream's
/// next synchronisation. cudaErrorInvalidValue: a shape that the function's text excludes.
namespace troupe::models::cuda {

enum class element : uint8_t { fp32, bf16, fp16 };

constexpr size_t size_of(element e) {
  return e == element::fp32 ? 4 : 2;
}

/// What launches depend on, of one device.
struct device_traits {
  int multiprocessors = 0;
  int major = 0; ///< Of the compute capability, at least 8.
  int minor = 0;
  size_t shared_bytes = 0; ///< That one block may ask for.
};

/// Fills `traits` for a device.
cudaError_t query_device(int device, device_traits& traits);

/// Where to enqueue, the first argument of everything.
struct launcher {
  cudaStream_t stream = nullptr;
  device_traits device;
  /// Lets a kernel start while the one before it drains (programmatic dependent launch, compute
  /// capability 9.0 on). Before its turn it fetches what does not change within a step: weights,
  /// the step's arrays, tables of frequencies, keys and values of earlier steps. So `embed` or
  /// `normalize` must be the first of these kernels after anything wrote those: they start when all
  /// that came before is complete, and nothing behind them starts before they do. Graphs capture it
  /// as well. The bits are the same either way.
  bool overlap = true;
};

/// Rows of a matrix in device memory.
struct matrix {
  void* data = nullptr;
  element type = element::fp32;
  uint32_t rows = 0;
  uint32_t columns = 0;
  size_t stride = 0; ///< Elements from row to row.
};

/// A weight [n, k], row-major without padding, in the compute type or quantized:
/// int8: bytes [n, k], code + 128; scales fp32 [n].
/// fp4: bytes [n, (k + 1) / 2], the even k in the lower half; scales fp32 [k / s, n] with
/// s = fp4_scale_span(k).
struct weight {
  const void* data = nullptr;
  element type = element::bf16; ///< The compute type.
  uint32_t n = 0;
  uint32_t k = 0;
  const float* bias = nullptr; ///< [n] or null.
  quantization kept_as = quantization::none;
  const float* scales = nullptr;
};

enum class norm_function : uint8_t { rms, layer };
enum class activation : uint8_t { none, silu, gelu, gelu_tanh, relu };

/// out = in / rms(in) * weight, or (in - mean) / deviation * weight + bias.
struct norm {
  norm_function function = norm_function::rms;
  const float* weight = nullptr; ///< [columns]
  const float* bias = nullptr;   ///< [columns] or null; layer norm only.
  float epsilon = 1e-5f;
};

/// Marks a token that is only there to fill the bucket.
inline constexpr uint32_t no_row = UINT32_MAX;

/// What a step runs, in device memory. A slot is the dense small number of a live sequence; what
/// belongs to a sequence is kept by slot and changed by small deltas.
struct step_arrays {
  // By token, [T].
  const int32_t* tokens = nullptr;      ///< Ids; negative: latest[slot of the row].
  const uint32_t* positions = nullptr;  ///< In the sequence.
  const uint32_t* token_rows = nullptr; ///< Row of each token; no_row: padding.
  // By row, [R].
  const uint32_t* slots = nullptr;
  const uint32_t* first_tokens = nullptr; ///< Into the step's tokens.
  const uint32_t* token_counts = nullptr; ///< 0: padding, or a row that failed before it began.
  // By slot.
  const uint32_t* block_tables = nullptr; ///< [slots, table_stride], block of each block_tokens.
  size_t table_stride = 0;
  const int32_t* latest = nullptr; ///< Last drawn token.
  uint32_t count = 0;              ///< T
  uint32_t rows = 0;               ///< R
};

/// Rotation of q and k.
struct rotation {
  const float* frequencies = nullptr; ///< [tables, D / 2], angle per position. Null: no rotation.
  /// By slot: which table, for models whose sequences differ (dynamic scaling). Null: all the
  /// first.
  const uint32_t* tables = nullptr;
  float factor = 1; ///< Multiplies cosines and sines.
};

/// The pages of one layer: block b lies at base + b * block_stride and holds keys
/// [K][block_tokens][D], then values likewise.
struct kv_pages {
  void* base = nullptr;
  size_t block_stride = 0; ///< Bytes, a multiple of 16.
  element type = element::bf16;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;    ///< Up to 256; 64 and 128 (16 bits) are the fast ones.
  uint32_t block_tokens = 0; ///< 8, 16 or 32.
};

/// Bytes of one block of one layer.
constexpr size_t layer_block_bytes(const kv_pages& p) {
  return size_t{2} * p.kv_heads * p.block_tokens * p.head_size * size_of(p.type);
}

// --- a step, in the order of a decoder ---

/// out[t] = table[id of t] (+ learned[position of t]). Padding becomes zeros.
/// @param table   [V, columns] in the table's own type; an id >= V reads the last row.
/// @param learned Null or [positions, columns].
/// @param out     hidden, fp32.
cudaError_t embed(const launcher& on, const step_arrays& step, const matrix& table,
                  const matrix* learned, const matrix& out);

/// out[i] = norm(in[rows[i]]), or of in[i] where `rows` is null.
/// @param in   fp32; with `add`, in[r] += add[r] first, kept in `in` (then `rows` must be null).
/// @param rows Null, or [out.rows] in device memory; no_row leaves a row of zeros.
/// @param add  Null or fp32, the shape of `in`.
/// @param out  Compute type or fp32; may be `in` itself when that is fp32 and `rows` is null.
cudaError_t normalize(const launcher& on, const norm& by, const matrix& in, const matrix* add,
                      const uint32_t* rows, const matrix& out);

/// Splits qkv [T, (H + 2 K) D], normalises each head of q and k (norms may be null; rms only),
/// rotates them, and writes k and v into the pages by the rows' block tables; q stays in place.
/// Computed in fp32; the angle is position * frequency in fp32, as transformers has it.
cudaError_t rotate_and_store(const launcher& on, const step_arrays& step, const matrix& qkv,
                             uint32_t heads, const norm* q_norm, const norm* k_norm,
                             const rotation& by, const kv_pages& pages);

/// Attention's shape and what it works in.
struct attention {
  uint32_t heads = 0;  ///< A multiple of K; head h reads head h / (H / K) of the pages.
  float scale = 1;     ///< Of the products of q and k.
  uint32_t window = 0; ///< Position p sees (p - window, p]; 0 = all up to p.
};

/// How decode attention cuts sequences into parts that run side by side.
struct decode_split {
  uint32_t parts = 1; ///< Blocks per row and kv head; at most 128.
  /// 0: a sequence is cut evenly. Otherwise each part has so many positions (the last one what is
  /// left), so that a row's bits do not depend on the batch. parts * part_tokens must then reach
  /// the longest context.
  uint32_t part_tokens = 0;
};

/// The split for a bucket of R rows. With `batch_invariant` it depends on the context only.
/// @param context Longest context that rows of this launch may have.
decode_split choose_decode_split(const device_traits& device, uint32_t rows, uint32_t kv_heads,
                                 uint32_t context, bool batch_invariant);

/// Scratch that `attend_decode` needs. All of it must be zero before the first use: it begins with
/// counters, which each launch leaves zero. Launches that may run side by side need one each.
size_t decode_workspace_bytes(uint32_t rows, uint32_t heads, uint32_t kv_heads, uint32_t head_size,
                              decode_split split);

/// Attention of the rows that have one token; others are left alone.
/// @param qkv [T, (H + 2 K) D] in the compute type, only q is read.
/// @param out [T, H D] in the compute type.
cudaError_t attend_decode(const launcher& on, const step_arrays& step, const matrix& qkv,
                          const attention& how, const kv_pages& pages, decode_split split,
                          void* workspace, const matrix& out);

/// `rotate_and_store` and `attend_decode` in one launch, for steps whose rows all have one token
/// (padding apart). @returns cudaErrorInvalidValue for shapes that need the two calls:
/// see `can_fuse_decode`.
cudaError_t rotate_and_attend(const launcher& on, const step_arrays& step, const matrix& qkv,
                              const norm* q_norm, const norm* k_norm, const rotation& by,
                              const attention& how, const kv_pages& pages, decode_split split,
                              void* workspace, const matrix& out);
bool can_fuse_decode(const attention& how, const kv_pages& pages);

/// Queries that one block of `attend_prefill` takes; they are of one row.
struct query_tile {
  uint32_t row = 0;
  uint32_t first = 0; ///< Into the row's tokens; a multiple of prefill_tile_tokens().
};

/// Query tokens per tile, for shapes of this kind.
uint32_t prefill_tile_tokens(const attention& how, const kv_pages& pages);

/// Attention of rows with any number of tokens over the pages, which hold this step's keys and
/// values already: causal, and everything before the chunk is seen as well.
/// @param tiles [tile_count] in device memory, one of the step's arrays, made by the caller from
/// the
///              rows that this call should serve (those with one token may go to attend_decode
///              instead).
cudaError_t attend_prefill(const launcher& on, const step_arrays& step, const matrix& qkv,
                           const attention& how, const kv_pages& pages, const query_tile* tiles,
                           uint32_t tile_count, const matrix& out);

/// out = f(in + bias), or, when `in` has twice the columns of `out`, f(in[:, :n] + bias) *
/// (in[:, n:] + bias). @param bias Null or fp32 [in.columns]. `out` may be `in` when not gated.
cudaError_t activate(const launcher& on, activation f, const matrix& in, const float* bias,
                     const matrix& out);

/// out[t] = bias, or out[t] += bias. @param bias fp32 [out.columns]
cudaError_t add_bias(const launcher& on, const float* bias, bool accumulate, const matrix& out);

// --- pages and loading ---

struct block_pair {
  uint32_t from = 0;
  uint32_t to = 0;
};

/// Copies whole blocks (all layers of them) within the pages; the pairs are independent.
/// @param pairs [count] in device memory.
cudaError_t copy_blocks(const launcher& on, void* base, size_t block_stride,
                        const block_pair* pairs, uint32_t count);

/// Converts `rows` x `columns` elements, rounding to nearest even.
/// @param transposed `from` is [columns, rows] (GPT-2's matrices).
cudaError_t convert(const launcher& on, const void* from, element from_type, bool transposed,
                    uint32_t rows, uint32_t columns, void* to, element to_type);

/// Random values around 0, uniform in (-spread, spread); a function of seed and index alone.
cudaError_t fill_random(const launcher& on, uint64_t seed, float spread, void* to, element type,
                        size_t count);

} // namespace troupe::models::cuda
