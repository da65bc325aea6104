#include "troupe/models/cuda/step_input.hpp"

#include <algorithm>
#include <cstring>

namespace troupe::models::cuda {

namespace {

/// Gives out aligned places one behind the other.
class places {
public:
  template <class T>
  size_t take(size_t count) {
    const size_t place = next_;
    next_ += (count * sizeof(T) + 255) / 256 * 256;
    return place;
  }
  size_t bytes() const { return next_; }

private:
  size_t next_ = 0;
};

template <class T>
T* at(std::byte* block, size_t place) {
  return reinterpret_cast<T*>(block + place);
}

template <class T>
const T* at(const std::byte* block, size_t place) {
  return reinterpret_cast<const T*>(block + place);
}

template <class T>
void write(std::byte* block, size_t place, std::span<const T> values) {
  if (!values.empty())
    std::memcpy(block + place, values.data(), values.size_bytes());
}

/// The values, and `filling` up to `size` of them.
template <class T>
void write_filled(std::byte* block, size_t place, std::span<const T> values, size_t size,
                  T filling) {
  write(block, place, values);
  std::fill(at<T>(block, place) + values.size(), at<T>(block, place) + size, filling);
}

} // namespace

step_places places_of(const step_sizes& sizes, const step_extras& extras) {
  places p;
  step_places result;
  result.tokens = p.take<int32_t>(sizes.tokens);
  result.positions = p.take<uint32_t>(sizes.tokens);
  result.token_rows = p.take<uint32_t>(sizes.tokens);
  result.slots = p.take<uint32_t>(sizes.rows);
  result.first_tokens = p.take<uint32_t>(sizes.rows);
  result.token_counts = p.take<uint32_t>(sizes.rows);
  result.picked = p.take<uint32_t>(sizes.picked);
  result.requests = p.take<draw_request>(sizes.picked);
  result.tiles = p.take<query_tile>(extras.tiles.size());
  result.words = p.take<scatter_word>(extras.words.size());
  result.histories = p.take<int32_t>(extras.histories.size());
  result.bytes = p.bytes();
  return result;
}

void write_step(const step_layout& layout, const step_sizes& sizes,
                std::span<const draw_request> requests, const step_extras& extras,
                const step_places& places, std::byte* block) {
  write_filled<int32_t>(block, places.tokens, layout.tokens, sizes.tokens, 0);
  write_filled<uint32_t>(block, places.positions, layout.positions, sizes.tokens, 0);
  auto* token_rows = at<uint32_t>(block, places.token_rows);
  auto* slots = at<uint32_t>(block, places.slots);
  auto* first_tokens = at<uint32_t>(block, places.first_tokens);
  auto* token_counts = at<uint32_t>(block, places.token_counts);
  std::fill_n(token_rows, sizes.tokens, no_row);
  std::fill_n(slots, sizes.rows, 0u);
  std::fill_n(first_tokens, sizes.rows, 0u);
  std::fill_n(token_counts, sizes.rows, 0u);
  for (uint32_t i = 0; i < layout.rows.size(); ++i) {
    const auto& row = layout.rows[i];
    std::fill_n(token_rows + row.first_token, row.token_count, i);
    slots[i] = row.slot;
    first_tokens[i] = row.first_token;
    token_counts[i] = row.token_count;
  }
  write_filled<uint32_t>(block, places.picked, layout.picked, sizes.picked, no_row);
  write(block, places.requests, requests);
  write(block, places.tiles, extras.tiles);
  write(block, places.words, extras.words);
  write(block, places.histories, extras.histories);
}

step_arrays arrays_of(const step_sizes& sizes, const step_places& places, const std::byte* block) {
  step_arrays a;
  a.tokens = at<int32_t>(block, places.tokens);
  a.positions = at<uint32_t>(block, places.positions);
  a.token_rows = at<uint32_t>(block, places.token_rows);
  a.slots = at<uint32_t>(block, places.slots);
  a.first_tokens = at<uint32_t>(block, places.first_tokens);
  a.token_counts = at<uint32_t>(block, places.token_counts);
  a.count = sizes.tokens;
  a.rows = sizes.rows;
  return a;
}

void collect_tiles(std::span<const layout_row> rows, uint32_t tile_tokens,
                   std::vector<query_tile>& tiles) {
  tiles.clear();
  for (uint32_t i = 0; i < rows.size(); ++i)
    if (rows[i].token_count > 1)
      for (uint32_t first = 0; first < rows[i].token_count; first += tile_tokens)
        tiles.push_back({i, first});
}

} // namespace troupe::models::cuda
