#include <algorithm>
#include <string>

#include "troupe/models/cuda/cuda_backend.hpp"
#include "troupe/models/cuda/draws.hpp"

namespace troupe::models::cuda {

namespace {

/// What throws while something is made becomes its error.
template <class F>
auto made(F&& f) -> caf::expected<decltype(f())> {
  try {
    return f();
  } catch (const device_failure& x) {
    return caf::make_error(x.code(), std::string{x.what()});
  }
}

/// A vector of a model file in fp32.
device_buffer vector_of(uploader& upload, const host_matrix& source) {
  device_buffer b{source.rows * source.columns * sizeof(float)};
  upload.convert({.data = source.data,
                  .type = source.type,
                  .rows = 1,
                  .columns = source.rows * source.columns},
                 b.data(), element::fp32);
  return b;
}

} // namespace

caf::expected<std::unique_ptr<linear_weight>> cuda_backend::make_linear(const linear_shape& shape) {
  return made([&]() -> std::unique_ptr<linear_weight> {
    auto w = std::make_unique<cuda_linear>();
    w->type = element_of(options_.compute);
    w->n = static_cast<uint32_t>(shape.n);
    w->k = static_cast<uint32_t>(shape.k);
    w->gated = shape.gated;
    w->kept_as = shape.kept_as;
    if (shape.kept_as == quantization::none) {
      w->rows = device_buffer{shape.n * shape.k * size_of(w->type)};
    } else {
      w->rows = device_buffer{shape.n * code_row_bytes(shape.kept_as, shape.k)};
      w->scales = device_buffer{shape.n * scales_per_row(shape.kept_as, shape.k) * sizeof(float)};
    }
    if (shape.bias)
      w->bias = device_buffer{shape.n * sizeof(float)};
    weight_bytes_ += w->rows.size() + w->scales.size() + w->bias.size();
    return w;
  });
}

void cuda_backend::fill_linear(linear_weight& weight, const host_matrix& source, size_t first) {
  auto& w = static_cast<cuda_linear&>(weight);
  if (w.kept_as != quantization::none)
    upload_->quantize(source, w, first);
  else
    upload_->convert(source, w.rows.as<std::byte>(first * w.k * size_of(w.type)), w.type);
}

void cuda_backend::fill_bias(linear_weight& weight, const host_matrix& source, size_t first) {
  auto& w = static_cast<cuda_linear&>(weight);
  upload_->convert({.data = source.data,
                    .type = source.type,
                    .rows = 1,
                    .columns = source.rows * source.columns},
                   w.bias.as<std::byte>(first * sizeof(float)), element::fp32);
}

caf::expected<std::unique_ptr<table_weight>> cuda_backend::make_table(const host_matrix& source) {
  return made([&]() -> std::unique_ptr<table_weight> {
    auto t = std::make_unique<cuda_table>();
    t->type = element_of(options_.compute);
    t->entries = static_cast<uint32_t>(source.rows);
    t->columns = static_cast<uint32_t>(source.columns);
    t->rows = device_buffer{source.rows * source.columns * size_of(t->type)};
    upload_->convert(source, t->rows.data(), t->type);
    weight_bytes_ += t->rows.size();
    return t;
  });
}

std::unique_ptr<table_weight> cuda_backend::make_table(const linear_weight& source) {
  const auto& w = static_cast<const cuda_linear&>(source);
  auto t = std::make_unique<cuda_table>();
  t->tied = &w;
  t->type = w.type;
  t->entries = w.n;
  t->columns = w.k;
  return t;
}

std::unique_ptr<norm_weight> cuda_backend::make_norm(norm_kind kind, double epsilon,
                                                     const host_matrix& weight,
                                                     const host_matrix* bias) {
  auto n = std::make_unique<cuda_norm>();
  n->function = kind == norm_kind::rms ? norm_function::rms : norm_function::layer;
  n->epsilon = static_cast<float>(epsilon);
  n->weight = vector_of(*upload_, weight);
  if (bias != nullptr)
    n->bias = vector_of(*upload_, *bias);
  weight_bytes_ += n->weight.size() + n->bias.size();
  return n;
}

caf::error cuda_backend::make_pages(const attention_shape& shape) {
  shape_ = shape;
  layer_bytes_ = layer_block_bytes(pages_of(0));
  block_bytes_ = layer_bytes_ * shape.layers;
  auto reserved = made([&] {
    // Whatever lay there before must not meet a product as NaN, masked or not.
    pages_ = zeroed_buffer(block_bytes_ * shape.blocks);
    return true;
  });
  return reserved ? caf::error{} : reserved.error();
}

void cuda_backend::loaded() {
  upload_->wait();
  upload_.reset();
  check(cudaDeviceSynchronize(), "loading");
  plan_rehearsals();
}

void cuda_backend::copy_block(uint32_t from, uint32_t to) {
  check(cudaMemcpyAsync(block(to), block(from), block_bytes_, cudaMemcpyDeviceToDevice,
                        stream_.get()),
        "copying a KV block");
}

void cuda_backend::swap_out(uint32_t index, uint32_t host) {
  auto& place = swapped_[host];
  if (place.size() == 0 && !spare_swaps_.empty()) {
    place = std::move(spare_swaps_.back());
    spare_swaps_.pop_back();
  }
  check(cudaMemcpyAsync(place.reserve(block_bytes_), block(index), block_bytes_,
                        cudaMemcpyDeviceToHost, stream_.get()),
        "moving a KV block to the host");
}

void cuda_backend::swap_in(uint32_t host, uint32_t index) {
  const auto found = swapped_.find(host);
  if (found == swapped_.end())
    return;
  check(cudaMemcpyAsync(block(index), found->second.data(), block_bytes_, cudaMemcpyHostToDevice,
                        stream_.get()),
        "moving a KV block to the device");
  // Used again behind this copy only, because the stream keeps its order.
  spare_swaps_.push_back(std::move(found->second));
  swapped_.erase(found);
}

void cuda_backend::require_room(uint32_t slot) {
  if (slot < slots_.slots())
    return;
  const auto old = slots_.slots();
  slots_.ensure(slot, stream_.get());
  recordings_.clear(); // They name the old addresses.
  if (!options_.shape.ends)
    return;
  const size_t row_bytes = size_t{options_.shape.vocabulary} * sizeof(uint32_t);
  device_buffer larger{slots_.slots() * row_bytes};
  check(cudaMemcpyAsync(larger.data(), counts_.data(), old * row_bytes, cudaMemcpyDeviceToDevice,
                        stream_.get()),
        "moving token counts");
  check(cudaStreamSynchronize(stream_.get()), "moving token counts");
  counts_ = std::move(larger);
}

void cuda_backend::start_sequence(uint32_t slot, const sequence_start& start,
                                  std::span<const float> frequencies, bool samples) {
  require_room(slot);
  slots_.set_frequencies(slot, frequencies);
  if (!samples)
    return;
  slots_.set_sampling(slot, sampling_of(start, slot));
  if (!counts_tokens(start.sampling))
    return;
  // The slot's earlier owner may wait in the list too, if its step was skipped.
  std::erase_if(new_histories_, [&](const auto& h) { return h.slot == slot; });
  new_histories_.push_back({.slot = slot,
                            .first = static_cast<uint32_t>(histories_.size()),
                            .length = static_cast<uint32_t>(start.history.size()),
                            .prompt = start.prompt_length});
  histories_.insert(histories_.end(), start.history.begin(), start.history.end());
}

void cuda_backend::extend_table(uint32_t slot, size_t first, std::span<const uint32_t> blocks) {
  require_room(slot);
  slots_.extend_table(slot, first, blocks);
}

} // namespace troupe::models::cuda
