#include "troupe/models/cuda/weights.hpp"

#include <algorithm>
#include <cstring>

#include "troupe/models/cuda/kernels/quantize.hpp"
#include "troupe/models/host_memory.hpp"

namespace troupe::models::cuda {

namespace {

constexpr size_t staging_bytes = 16 << 20;
constexpr size_t staging_buffers = 4;
/// One thread copies some 10 GB/s out of the page cache, the link takes up to 55.
constexpr unsigned most_threads = 8;
constexpr size_t part_bytes = 1 << 20;

} // namespace

element element_of(dtype type) {
  switch (type) {
  case dtype::bf16:
    return element::bf16;
  case dtype::fp16:
    return element::fp16;
  default:
    return element::fp32;
  }
}

uploader::uploader(const launcher& on)
    : on_(on), threads_(std::min(most_threads, usable_processors())) {}

uploader::~uploader() {
  cudaStreamSynchronize(on_.stream);
}

void uploader::wait() {
  check(cudaStreamSynchronize(on_.stream), "copying weights");
}

void uploader::copy(const void* from, size_t bytes, void* to) {
  for (size_t done = 0; done < bytes;) {
    if (ring_.size() < staging_buffers)
      ring_.push_back(std::make_unique<staging>());
    auto& s = *ring_[next_];
    next_ = (next_ + 1) % staging_buffers;
    auto* memory = s.memory.reserve(staging_bytes);
    if (s.used)
      check(cudaEventSynchronize(s.free.get()), "copying weights");
    const size_t size = std::min(staging_bytes, bytes - done);
    const auto* source = static_cast<const std::byte*>(from) + done;
    threads_.parallel_for((size + part_bytes - 1) / part_bytes, [&](size_t part, size_t) {
      const size_t first = part * part_bytes;
      std::memcpy(memory + first, source + first, std::min(part_bytes, size - first));
    });
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + done, memory, size, cudaMemcpyHostToDevice,
                          on_.stream),
          "copying weights");
    s.free.record(on_.stream);
    s.used = true;
    done += size;
  }
}

void uploader::convert(const host_matrix& from, void* to, element type) {
  const auto from_type = element_of(from.type);
  const size_t bytes = from.rows * from.columns * size_of(from_type);
  if (from_type == type && !from.transposed) {
    copy(from.data, bytes, to);
    return;
  }
  check(cuda::convert(on_, copy_raw(from), from_type, from.transposed,
                      static_cast<uint32_t>(from.rows), static_cast<uint32_t>(from.columns), to,
                      type),
        "converting weights");
}

void uploader::quantize(const host_matrix& from, const cuda_linear& into, size_t first) {
  const auto* raw = copy_raw(from);
  const size_t bytes = (from.rows * from.columns + fp4_block - 1) / fp4_block * sizeof(float);
  if (largest_.size() < bytes) {
    wait();
    largest_ = device_buffer{};
    largest_ = device_buffer{bytes};
  }
  check(quantize_weight(on_, raw, element_of(from.type), from.transposed,
                        static_cast<uint32_t>(from.rows), static_cast<uint32_t>(first), into.view(),
                        largest_.as<float>()),
        "quantizing weights");
}

void* uploader::copy_raw(const host_matrix& from) {
  const size_t bytes = from.rows * from.columns * size_of(element_of(from.type));
  if (raw_.size() < bytes) {
    wait(); // An earlier conversion may still read the smaller one.
    raw_ = device_buffer{};
    raw_ = device_buffer{std::max(bytes, staging_bytes)};
  }
  copy(from.data, bytes, raw_.data());
  return raw_.data();
}

} // namespace troupe::models::cuda
