#include "troupe/models/cuda/cuda_backend.hpp"

namespace troupe::models::cuda {

namespace {

activation kernel_of(activation_function f) {
  switch (f) {
  case activation_function::silu:
    return activation::silu;
  case activation_function::gelu:
    return activation::gelu;
  case activation_function::gelu_tanh:
    return activation::gelu_tanh;
  case activation_function::relu:
    return activation::relu;
  }
  return activation::silu;
}

matrix view(const tensor_view& v) {
  return {v.data, element_of(v.type), static_cast<uint32_t>(v.rows),
          static_cast<uint32_t>(v.columns), v.stride};
}

const cuda_linear& of(const linear_weight& w) {
  return static_cast<const cuda_linear&>(w);
}

norm of(const norm_weight& w) {
  return static_cast<const cuda_norm&>(w).view();
}

} // namespace

kv_pages cuda_backend::pages_of(uint32_t layer) const {
  return {.base = pages_.as<std::byte>(layer * layer_bytes_),
          .block_stride = block_bytes_,
          .type = element_of(options_.compute),
          .kv_heads = shape_.kv_heads,
          .head_size = shape_.head_size,
          .block_tokens = shape_.block_tokens};
}

void cuda_backend::embed(const table_weight& table, const table_weight* positions_table,
                         tensor_view out) {
  const auto rows = static_cast<const cuda_table&>(table).view();
  if (positions_table == nullptr) {
    check(cuda::embed(on(), arrays_, rows, nullptr, view(out)), "embedding");
    return;
  }
  const auto learned = static_cast<const cuda_table*>(positions_table)->view();
  check(cuda::embed(on(), arrays_, rows, &learned, view(out)), "embedding");
}

void cuda_backend::norm_picked(const norm_weight& weight, tensor_view in, size_t first,
                               tensor_view out) {
  check(normalize(on(), of(weight), view(in), nullptr, input_.as<uint32_t>(places_.picked) + first,
                  view(out)),
        "the last norm");
}

void cuda_backend::linear(const linear_weight& weight, tensor_view in, tensor_view out,
                          bool accumulate) {
  linear_call call;
  call.x = view(in);
  call.by = of(weight).view();
  call.accumulate = accumulate;
  call.y = view(out);
  call.scratch = work_.linear_scratch();
  check(cuda::linear(on(), call, products()), "a matrix product");
}

void cuda_backend::norm_linear(const norm_weight& by, const linear_weight& weight, tensor_view in,
                               tensor_view, tensor_view out) {
  const auto before = of(by);
  linear_call call;
  call.x = view(in);
  call.before = &before;
  call.by = of(weight).view();
  call.y = view(out);
  call.scratch = work_.linear_scratch();
  check(cuda::linear(on(), call, products()), "a matrix product");
}

void cuda_backend::norm_linear_activated(const norm_weight& by, const linear_weight& weight,
                                         activation_function function, tensor_view in, tensor_view,
                                         tensor_view out) {
  const auto before = of(by);
  linear_call call;
  call.x = view(in);
  call.before = &before;
  call.by = of(weight).view();
  call.function = kernel_of(function);
  call.gated = of(weight).gated;
  call.y = view(out);
  call.scratch = work_.linear_scratch();
  check(cuda::linear(on(), call, products()), "a matrix product");
}

void cuda_backend::attention(uint32_t layer, tensor_view qkv, const norm_weight* q_norm,
                             const norm_weight* k_norm, uint32_t window, tensor_view out) {
  const auto pages = pages_of(layer);
  const cuda::attention how{.heads = shape_.heads, .scale = shape_.scale, .window = window};
  const rotation by{.frequencies = shape_.rotary ? slots_.frequencies() : nullptr,
                    .tables = slots_.rotations(),
                    .factor = shape_.rotary_factor};
  const auto q = q_norm != nullptr ? of(*q_norm) : norm{};
  const auto k = k_norm != nullptr ? of(*k_norm) : norm{};
  const auto* q_by = q_norm != nullptr ? &q : nullptr;
  const auto* k_by = k_norm != nullptr ? &k : nullptr;
  const auto split = work_.split_for(sizes_.rows, context_);
  if (one_token_rows_ && can_fuse_decode(how, pages)) {
    check(rotate_and_attend(on(), arrays_, view(qkv), q_by, k_by, by, how, pages, split,
                            work_.decode_workspace(sizes_.rows, split), view(out)),
          "attention");
    return;
  }
  check(rotate_and_store(on(), arrays_, view(qkv), shape_.heads, q_by, k_by, by, pages),
        "storing keys and values");
  if (has_one_token_row_)
    check(attend_decode(on(), arrays_, view(qkv), how, pages, split,
                        work_.decode_workspace(sizes_.rows, split), view(out)),
          "attention");
  if (tile_count_ > 0)
    check(attend_prefill(on(), arrays_, view(qkv), how, pages, input_.as<query_tile>(places_.tiles),
                         tile_count_, view(out)),
          "attention");
}

void cuda_backend::sample(tensor_view logits, size_t first) {
  sample_call call;
  call.logits = view(logits);
  call.requests = input_.as<draw_request>(places_.requests) + first;
  call.slots = slots_.sampling();
  call.counts = counts_.as<uint32_t>();
  call.latest = slots_.latest();
  call.results = results_.as<draw_result>() + first;
  call.top = has_top_ ? top_.as<top_entry>() + first * max_top : nullptr;
  call.plain_greedy = plain_greedy_;
  call.workspace = work_.sample_workspace(static_cast<uint32_t>(logits.rows));
  check(cuda::sample(on(), arrays_, call), "sampling");
  const auto& on_host = record_->on_host;
  const size_t row_bytes = logits.columns * sizeof(float);
  for (size_t i = 0; i < on_host.size(); ++i) {
    const auto row = record_->draws[on_host[i]].row;
    if (row >= first && row < first + logits.rows)
      check(cudaMemcpyAsync(record_->logits.data() + i * row_bytes,
                            static_cast<const float*>(logits.data) + (row - first) * logits.stride,
                            row_bytes, cudaMemcpyDeviceToHost, stream_.get()),
            "copying logits");
  }
}

} // namespace troupe::models::cuda
