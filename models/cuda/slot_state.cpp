#include "troupe/models/cuda/slot_state.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace troupe::models::cuda {

namespace {

static_assert(sizeof(slot_sampling) % sizeof(uint32_t) == 0);
constexpr size_t sampling_words = sizeof(slot_sampling) / sizeof(uint32_t);

/// Parts begin at 256 bytes.
constexpr size_t aligned(size_t words) {
  return (words + 63) / 64 * 64;
}

} // namespace

size_t slot_state::stride_for(const device_stage_shape& shape) {
  return (shape.context + shape.block_tokens - 1) / shape.block_tokens;
}

slot_state::places slot_state::places_for(const device_stage_shape& shape, size_t stride,
                                          uint32_t slots) {
  places p;
  p.tables = aligned(slots); // Behind the last drawn tokens.
  p.sampling = p.tables + aligned(stride * slots);
  p.frequencies = p.sampling + aligned(sampling_words * slots);
  const size_t tables = shape.own_frequencies ? slots : 1;
  p.rotations = p.frequencies + aligned(tables * (shape.head_size / 2));
  p.end = p.rotations + (shape.own_frequencies ? aligned(slots) : 0);
  return p;
}

size_t slot_state::bytes_for(const device_stage_shape& shape, uint32_t slots) {
  return places_for(shape, stride_for(shape), slots).end * sizeof(uint32_t);
}

slot_state::slot_state(const device_stage_shape& shape, uint32_t slots)
    : shape_(shape), stride_(stride_for(shape)), slots_(slots),
      places_(places_for(shape, stride_, slots)),
      memory_(zeroed_buffer(places_.end * sizeof(uint32_t))) {}

bool slot_state::ensure(uint32_t slot, cudaStream_t stream) {
  if (slot < slots_)
    return false;
  const uint32_t slots = std::max(slot + 1, slots_ * 2);
  const auto to = places_for(shape_, stride_, slots);
  device_buffer larger{to.end * sizeof(uint32_t)};
  check(cudaMemsetAsync(larger.data(), 0, larger.size(), stream), "clearing the sequences' state");
  // Every part keeps its order, and grows at its end.
  const auto from_parts = {size_t{0},           places_.tables,    places_.sampling,
                           places_.frequencies, places_.rotations, places_.end};
  const auto to_parts = {size_t{0}, to.tables, to.sampling, to.frequencies, to.rotations, to.end};
  const auto new_place = [&](size_t place) {
    size_t part = 0;
    while (place >= from_parts.begin()[part + 1])
      ++part;
    return place - from_parts.begin()[part] + to_parts.begin()[part];
  };
  for (size_t part = 0; part + 1 < from_parts.size(); ++part) {
    const size_t words = from_parts.begin()[part + 1] - from_parts.begin()[part];
    if (words > 0)
      check(cudaMemcpyAsync(larger.as<uint32_t>() + to_parts.begin()[part],
                            this->words() + from_parts.begin()[part], words * sizeof(uint32_t),
                            cudaMemcpyDeviceToDevice, stream),
            "moving the sequences' state");
  }
  check(cudaStreamSynchronize(stream), "moving the sequences' state");
  for (auto& c : changes_)
    c.place = static_cast<uint32_t>(new_place(c.place));
  memory_ = std::move(larger);
  places_ = to;
  slots_ = slots;
  return true;
}

void slot_state::extend_table(uint32_t slot, size_t first, std::span<const uint32_t> blocks) {
  for (size_t i = 0; i < blocks.size() && first + i < stride_; ++i)
    change(places_.tables + slot * stride_ + first + i, blocks[i]);
}

void slot_state::set_sampling(uint32_t slot, const slot_sampling& sampling) {
  uint32_t values[sampling_words];
  std::memcpy(values, &sampling, sizeof(sampling));
  for (size_t i = 0; i < sampling_words; ++i)
    change(places_.sampling + slot * sampling_words + i, values[i]);
}

void slot_state::set_frequencies(uint32_t slot, std::span<const float> frequencies) {
  if (frequencies.empty() || (frequencies_known_ && !shape_.own_frequencies))
    return;
  frequencies_known_ = true;
  const size_t half = shape_.head_size / 2;
  const size_t table = shape_.own_frequencies ? slot : 0;
  for (size_t i = 0; i < half && i < frequencies.size(); ++i)
    change(places_.frequencies + table * half + i, std::bit_cast<uint32_t>(frequencies[i]));
  if (shape_.own_frequencies)
    change(places_.rotations + slot, slot);
}

std::span<const scatter_word> slot_state::changes() {
  // A place may be told twice where a step was skipped in between; the last word counts.
  std::stable_sort(changes_.begin(), changes_.end(),
                   [](auto& a, auto& b) { return a.place < b.place; });
  size_t kept = 0;
  for (size_t i = 0; i < changes_.size(); ++i)
    if (i + 1 == changes_.size() || changes_[i + 1].place != changes_[i].place)
      changes_[kept++] = changes_[i];
  changes_.resize(kept);
  return changes_;
}

} // namespace troupe::models::cuda
