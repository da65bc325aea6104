#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "troupe/models/backend.hpp"
#include "troupe/models/cuda/kernels/kernels.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"
#include "troupe/models/cuda/scatter.hpp"

/// A step as the kernels read it: all arrays in one block, which is filled in pinned memory and
/// copied to the device at once. For one bucket every array of the step itself lies at the same
/// place, so that a recording finds it again; what varies beside it comes behind.
namespace troupe::models::cuda {

/// Sizes after filling up.
struct step_sizes {
  uint32_t tokens = 0;
  uint32_t rows = 0;
  uint32_t picked = 0;
  friend bool operator==(const step_sizes&, const step_sizes&) = default;
};

/// Offsets in bytes into the block.
struct step_places {
  // The step.
  size_t tokens = 0, positions = 0, token_rows = 0;
  size_t slots = 0, first_tokens = 0, token_counts = 0;
  size_t picked = 0, requests = 0;
  // Beside it.
  size_t tiles = 0, words = 0, histories = 0;
  size_t bytes = 0;
};

/// What comes behind a step's own arrays.
struct step_extras {
  std::span<const query_tile> tiles;
  std::span<const scatter_word> words;
  std::span<const int32_t> histories;
};

step_places places_of(const step_sizes& sizes, const step_extras& extras);

/// Writes the whole block. `requests` has `sizes.picked` entries.
void write_step(const step_layout& layout, const step_sizes& sizes,
                std::span<const draw_request> requests, const step_extras& extras,
                const step_places& places, std::byte* block);

/// The arrays of a block that lies at `block` in device memory.
step_arrays arrays_of(const step_sizes& sizes, const step_places& places, const std::byte* block);

/// Tiles of the rows with more than one token.
void collect_tiles(std::span<const layout_row> rows, uint32_t tile_tokens,
                   std::vector<query_tile>& tiles);

} // namespace troupe::models::cuda
