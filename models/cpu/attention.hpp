#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "troupe/models/activation.hpp"
#include "troupe/models/cpu/context.hpp"

namespace troupe::models::cpu {

/// Shape of the pages of one layer. A block holds `block_tokens` consecutive positions of a
/// sequence: keys [kv_heads][head_size][block_tokens], then values
/// [kv_heads][block_tokens][head_size].
struct kv_layout {
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;     ///< Any; multiples of 16 are fastest.
  uint32_t block_tokens = 16; ///< 8, 16 or 32.
  dtype type = dtype::fp32;   ///< fp32 or bf16.

  size_t element_bytes() const { return type == dtype::fp32 ? 4 : 2; }
  /// Elements of one kv head's keys (or values) in a block.
  size_t head_elements() const { return size_t{head_size} * block_tokens; }
  /// Bytes of one block of one layer, keys and values.
  size_t block_bytes() const { return 2 * kv_heads * head_elements() * element_bytes(); }
};

/// The pages of one layer: block b lies at base + b * block_stride. Layers may be interleaved
/// (a block's layers side by side) or not, as the owner likes. Alignment: 64 bytes is fastest.
struct kv_pages {
  kv_layout layout;
  std::byte* base = nullptr;
  size_t block_stride = 0; ///< Bytes, at least layout.block_bytes().
};

/// Consecutive tokens of one sequence in a step, and where its keys and values are.
struct attention_row {
  uint32_t first_token = 0; ///< Row of q, k, v and out at which the row starts.
  uint32_t token_count = 0;
  uint32_t position = 0; ///< Of the first token in the sequence.
  /// Block table of the sequence: position p is in block blocks[p / block_tokens], slot
  /// p % block_tokens. Must reach to the row's last position. Entries that lie wholly before the
  /// sliding window are not read.
  const uint32_t* blocks = nullptr;
};

/// Stores the step's keys and values in the pages, rounded to nearest even for bf16.
/// @param k, v [T, kv_heads, head_size], `k_stride` and `v_stride` floats from token to token.
void write_kv(context& where, const kv_pages& pages, std::span<const attention_row> rows,
              const float* k, size_t k_stride, const float* v, size_t v_stride);

/// What `attend` is asked for.
struct attention {
  const float* q = nullptr; ///< [T, heads, head_size]
  size_t q_stride = 0;      ///< Floats from token to token.
  uint32_t heads = 0;   ///< A multiple of kv_heads; head h reads kv head h / (heads / kv_heads).
  float scale = 1;      ///< Multiplies q before the products.
  uint32_t window = 0;  ///< Position p sees keys in (p - window, p]; 0 = all up to p.
  float* out = nullptr; ///< [T, heads, head_size]; must not overlap q.
  size_t out_stride = 0;
};

/// Causal self-attention of the step's rows over their pages, which hold this step's keys and
/// values already (`write_kv`). Softmax is computed online over tiles of 64 positions that start at
/// multiples of 64 in the sequence, so an output's bits depend only on its query and the keys and
/// values it sees: not on how the prompt was cut, on neighbours, block numbers or threads.
/// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867);
/// grouped queries and window as transformers' LlamaAttention and MistralAttention.
void attend(context& where, const kv_pages& pages, std::span<const attention_row> rows,
            const attention& a);

} // namespace troupe::models::cpu
