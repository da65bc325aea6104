#include "troupe/models/cuda/cuda_backend.hpp"

#include <algorithm>
#include <string>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cuda/buckets.hpp"
#include "troupe/models/cuda/draws.hpp"

namespace troupe::models::cuda {

namespace {

device_traits open_device(uint32_t device) {
  cudaSetDevice(static_cast<int>(device));
  // What an earlier stage has died of sticks to the context; whoever used it is gone or dead too.
  if (const auto fault = cudaDeviceSynchronize(); fault != cudaSuccess) {
    cudaDeviceReset();
    cudaGetLastError();
    // After some faults, illegal accesses among them, the driver gives the process nothing more.
    if (cudaSetDevice(static_cast<int>(device)) != cudaSuccess ||
        cudaDeviceSynchronize() != cudaSuccess)
      throw device_failure{ec::device_lost,
                           std::string{"this process cannot use the GPU again after a fault ("} +
                               cudaGetErrorString(fault) + "): restart the server"};
  }
  device_traits traits;
  check(query_device(static_cast<int>(device), traits), "asking what the GPU is");
  return traits;
}

/// Peers are read directly where the hardware lets them; elsewhere the driver copies by the host.
void allow_peers(int device) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "counting GPUs");
  for (int other = 0; other < count; ++other) {
    int can = 0;
    if (other == device || cudaDeviceCanAccessPeer(&can, device, other) != cudaSuccess || can == 0)
      continue;
    cudaDeviceEnablePeerAccess(other, 0);
    cudaGetLastError(); // It may be enabled already.
  }
}

/// Picked tokens are the step's tokens, each once.
bool picks_all(const step_layout& layout) {
  if (layout.picked.size() != layout.tokens.size())
    return false;
  for (size_t i = 0; i < layout.picked.size(); ++i)
    if (layout.picked[i] != i)
      return false;
  return true;
}

} // namespace

cuda_backend::cuda_backend(const device_backend_options& options)
    : options_(options), traits_(open_device(options.device)), work_(options, traits_),
      slots_(options.shape, 2 * work_.limits().rows),
      upload_(std::make_unique<uploader>(launcher{stream_.get(), traits_, true})),
      completion_(static_cast<int>(options.device)) {
  allow_peers(static_cast<int>(options.device));
  std::string problem;
  gemm_ = open_gemm_library(work_.gemm_workspace(), workspace::gemm_workspace_bytes, problem);
  if (gemm_ == nullptr)
    throw device_failure{ec::bad_option, "cuBLASLt cannot be opened: " + problem};
  const auto& limits = work_.limits();
  const step_sizes most{limits.tokens, std::max(limits.rows, limits.tokens), limits.tokens};
  input_ = device_buffer{places_of(most, {}).bytes + (1 << 20)};
  if (options.shape.ends) {
    counts_ = device_buffer{size_t{slots_.slots()} * options.shape.vocabulary * sizeof(uint32_t)};
    results_ = device_buffer{limits.tokens * sizeof(draw_result)};
    top_ = device_buffer{size_t{limits.tokens} * max_top * sizeof(top_entry)};
  } else {
    passed_ = std::make_shared<passed_buffers>(static_cast<int>(options.device),
                                               size_t{limits.tokens} * options.shape.hidden *
                                                   sizeof(float));
  }
}

cuda_backend::~cuda_backend() {
  cudaSetDevice(static_cast<int>(options_.device));
  recordings_.abandon(stream_.get());
  cudaStreamSynchronize(stream_.get());
}

tensor_view cuda_backend::matrix(scratch which, size_t rows, size_t columns) {
  const bool wide = work_.type_of(which) == element::fp32;
  return {work_.scratch_at(which, rows, columns), rows, columns,
          work_.scratch_stride(which, columns), wide ? dtype::fp32 : options_.compute};
}

std::unique_ptr<step_record> cuda_backend::take_record() {
  if (record_ != nullptr) {
    // A failure left the last step where it was; the device may still read its memory.
    cudaStreamSynchronize(stream_.get());
    return std::move(record_);
  }
  if (spare_.empty())
    return std::make_unique<step_record>();
  auto record = std::move(spare_.back());
  spare_.pop_back();
  return record;
}

void cuda_backend::recycle(std::unique_ptr<step_record> record) {
  record->watched.wait(true);
  spare_.push_back(std::move(record));
}

void cuda_backend::choose_sizes(const step_layout& layout) {
  const auto tokens = static_cast<uint32_t>(layout.tokens.size());
  one_token_rows_ = tokens == layout.rows.size();
  has_one_token_row_ = false;
  uint32_t longest = 1;
  for (const auto& row : layout.rows)
    if (row.token_count == 1) {
      has_one_token_row_ = true;
      longest = std::max(longest, row.position + 1);
    }
  context_ = options_.batch_invariant ? options_.shape.context
                                      : context_class(longest, options_.shape.context);
  sizes_.tokens = one_token_rows_ ? rows_bucket(tokens) : tokens_bucket(tokens);
  sizes_.rows =
      one_token_rows_ ? sizes_.tokens : rows_bucket(static_cast<uint32_t>(layout.rows.size()));
  const auto picked = static_cast<uint32_t>(layout.picked.size());
  const auto group = work_.limits().logits_rows;
  const uint32_t rest = picked % group;
  const bool all = one_token_rows_ && picks_all(layout);
  sizes_.picked = all ? sizes_.tokens : picked - rest + (rest > 0 ? rows_bucket(rest) : 0);
  recordable_ = options_.graphs && one_token_rows_ && !layout.reads_rows &&
                (all || (!options_.shape.ends && picked == 0));
}

size_t cuda_backend::group_rows(size_t first) const {
  return std::min<size_t>(work_.limits().logits_rows, sizes_.picked - first);
}

void cuda_backend::collect_requests(const step_layout& layout) {
  requests_.resize(sizes_.picked);
  request_draws(layout.draws, requests_, record_->on_host);
  record_->draws.assign(layout.draws.begin(), layout.draws.end());
  record_->picked = sizes_.picked;
  plain_greedy_ = all_plain_greedy(layout.draws);
  has_top_ = std::any_of(requests_.begin(), requests_.end(),
                         [](const draw_request& r) { return r.top_n > 0; });
  record_->has_top = has_top_;
  recordable_ &= record_->on_host.empty();
  if (!record_->on_host.empty())
    record_->logits.reserve(record_->on_host.size() * options_.shape.vocabulary * sizeof(float));
}

size_t cuda_backend::begin_step(const step_layout& layout) {
  check(cudaSetDevice(static_cast<int>(options_.device)), "opening the GPU");
  recordings_.abandon(stream_.get());
  record_ = take_record();
  if (layout.tokens.empty()) {
    record_->begun.record(stream_.get());
    record_->draws.clear();
    record_->on_host.clear();
    record_->picked = 0;
    return 0;
  }
  choose_sizes(layout);
  collect_requests(layout);
  upload(layout);
  return sizes_.tokens;
}

void cuda_backend::upload(const step_layout& layout) {
  if (one_token_rows_)
    tiles_.clear();
  else
    collect_tiles(layout.rows, prefill_tile_tokens({.heads = shape_.heads}, pages_of(0)), tiles_);
  tile_count_ = static_cast<uint32_t>(tiles_.size());
  const step_extras extras{.tiles = tiles_, .words = slots_.changes(), .histories = histories_};
  places_ = places_of(sizes_, extras);
  auto* memory = record_->input.reserve(places_.bytes);
  write_step(layout, sizes_, requests_, extras, places_, memory);
  if (input_.size() < places_.bytes) {
    check(cudaStreamSynchronize(stream_.get()), "waiting for the device");
    recordings_.clear(); // They name the old addresses.
    input_ = device_buffer{};
    input_ = device_buffer{places_.bytes * 2};
  }
  record_->begun.record(stream_.get()); // Here: the host's share so far is not the device's.
  check(
      cudaMemcpyAsync(input_.data(), memory, places_.bytes, cudaMemcpyHostToDevice, stream_.get()),
      "copying the step to the device");
  check(scatter(stream_.get(), slots_.words(), input_.as<scatter_word>(places_.words),
                static_cast<uint32_t>(extras.words.size())),
        "updating the sequences' state");
  slots_.clear_changes();
  count_histories();
  arrays_ = arrays_of(sizes_, places_, input_.as<std::byte>());
  arrays_.block_tables = slots_.tables();
  arrays_.table_stride = slots_.table_stride();
  arrays_.latest = slots_.latest();
}

void cuda_backend::count_histories() {
  const auto vocabulary = options_.shape.vocabulary;
  for (const auto& h : new_histories_)
    check(count_history(on(), input_.as<int32_t>(places_.histories) + h.first, h.length, h.prompt,
                        counts_.as<uint32_t>() + size_t{h.slot} * vocabulary, vocabulary),
          "counting tokens");
  new_histories_.clear();
  histories_.clear();
}

bool cuda_backend::replay() {
  if (!recordable_)
    return false;
  return recordings_.replay(
      {.rows = sizes_.tokens, .context = context_, .greedy = plain_greedy_, .top = has_top_},
      stream_.get());
}

void cuda_backend::end_pass() {
  recordings_.finish(stream_.get());
}

step_ticket cuda_backend::finish_step(std::function<void()> done) {
  auto& r = *record_;
  r.ticket = step_ticket{next_ticket_++};
  if (!r.draws.empty()) {
    const size_t results = r.picked * sizeof(draw_result);
    const size_t top = r.has_top ? r.picked * max_top * sizeof(top_entry) : 0;
    auto* memory = r.results.reserve(results + top);
    check(cudaMemcpyAsync(memory, results_.data(), results, cudaMemcpyDeviceToHost, stream_.get()),
          "copying results");
    if (top > 0)
      check(cudaMemcpyAsync(memory + results, top_.data(), top, cudaMemcpyDeviceToHost,
                            stream_.get()),
            "copying results");
  }
  r.done.record(stream_.get());
  const auto ticket = r.ticket;
  running_.push_back(std::move(record_));
  if (done) {
    r.notify = std::move(done);
    completion_.watch(&r);
  }
  return ticket;
}

void cuda_backend::wait(step_ticket ticket) {
  // Steps that nobody asked for any more are over as well.
  while (!running_.empty() && running_.front()->ticket < ticket) {
    cudaEventSynchronize(running_.front()->done.get());
    recycle(std::move(running_.front()));
    running_.pop_front();
  }
  if (running_.empty() || running_.front()->ticket != ticket)
    throw device_failure{ec::step_fault, "the step's results were given away before"};
  auto record = std::move(running_.front());
  running_.pop_front();
  const auto error = cudaEventSynchronize(record->done.get());
  device_ns_ = 0;
  if (error == cudaSuccess) {
    float milliseconds = 0;
    if (cudaEventElapsedTime(&milliseconds, record->begun.get(), record->done.get()) == cudaSuccess)
      device_ns_ = static_cast<uint64_t>(double{milliseconds} * 1e6);
    const auto* results = reinterpret_cast<const draw_result*>(record->results.data());
    const auto* top =
        record->has_top ? reinterpret_cast<const top_entry*>(results + record->picked) : nullptr;
    size_t next_on_host = 0;
    for (uint32_t i = 0; i < record->draws.size(); ++i) {
      const auto& d = record->draws[i];
      if (next_on_host < record->on_host.size() && record->on_host[next_on_host] == i) {
        const size_t columns = options_.shape.vocabulary;
        draw_on_host(
            d, {reinterpret_cast<const float*>(record->logits.data()) + next_on_host * columns,
                columns});
        ++next_on_host;
      } else {
        take_draw(d, results[d.row], top != nullptr ? top + d.row * max_top : nullptr);
      }
    }
  }
  recycle(std::move(record));
  check(error, "running the step");
}

void cuda_backend::receive(const models::activation& from, tensor_view out) {
  receive_activation(from, out.data, static_cast<int>(options_.device), stream_.get());
}

models::activation cuda_backend::send(tensor_view from, size_t rows) {
  return passed_->send(from.data, rows, from.columns, stream_.get());
}

void cuda_backend::read_row(tensor_view from, size_t row, std::span<float> out) {
  const size_t element_bytes = models::size_of(from.type);
  std::vector<std::byte> raw(out.size() * element_bytes);
  check(
      cudaMemcpyAsync(raw.data(),
                      static_cast<const std::byte*>(from.data) + row * from.stride * element_bytes,
                      raw.size(), cudaMemcpyDeviceToHost, stream_.get()),
      "reading a row");
  check(cudaStreamSynchronize(stream_.get()), "reading a row");
  cpu::widen(from.type, raw.data(), out.size(), out.data());
}

} // namespace troupe::models::cuda
