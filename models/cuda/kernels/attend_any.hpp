#pragma once

#include "troupe/models/cuda/kernels/kernels.hpp"

namespace troupe::models::cuda {

/// Attention of any element type and head size up to 256, a block for each query and head; slow.
/// @param tiles Null: `count` rows, those that have one token. Otherwise `count` tiles.
cudaError_t attend_any(const launcher& on, const step_arrays& step, const matrix& qkv,
                       const attention& how, const kv_pages& pages, const query_tile* tiles,
                       uint32_t count, const matrix& out);

/// Queries of a tile that attend_any is given.
inline constexpr uint32_t any_tile_tokens = 16;

} // namespace troupe::models::cuda
