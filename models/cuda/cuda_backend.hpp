#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "troupe/models/backend.hpp"
#include "troupe/models/cuda/kernels/gemm.hpp"
#include "troupe/models/cuda/passing.hpp"
#include "troupe/models/cuda/recordings.hpp"
#include "troupe/models/cuda/slot_state.hpp"
#include "troupe/models/cuda/step_input.hpp"
#include "troupe/models/cuda/step_record.hpp"
#include "troupe/models/cuda/weights.hpp"
#include "troupe/models/cuda/workspace.hpp"
#include "troupe/models/device_library.hpp"

namespace troupe::models::cuda {

/// A stage on one GPU. Everything is enqueued on one stream; the host waits only in `wait` and
/// `read_row`, and while loading. `hidden` and logits are fp32, all else of the compute type.
class cuda_backend final : public backend {
public:
  /// Errors: throws device_failure.
  explicit cuda_backend(const device_backend_options& options);
  ~cuda_backend() override;

  // cuda_backend_loading.cpp
  caf::expected<std::unique_ptr<linear_weight>> make_linear(const linear_shape& shape) override;
  void fill_linear(linear_weight& weight, const host_matrix& source, size_t first) override;
  void fill_bias(linear_weight& weight, const host_matrix& source, size_t first) override;
  caf::expected<std::unique_ptr<table_weight>> make_table(const host_matrix& source) override;
  std::unique_ptr<table_weight> make_table(const linear_weight& source) override;
  std::unique_ptr<norm_weight> make_norm(norm_kind kind, double epsilon, const host_matrix& weight,
                                         const host_matrix* bias) override;
  caf::error make_pages(const attention_shape& shape) override;
  void loaded() override;
  uint64_t weight_bytes() const override { return weight_bytes_; }
  uint64_t kv_bytes() const override { return pages_.size(); }

  void copy_block(uint32_t from, uint32_t to) override;
  void swap_out(uint32_t block, uint32_t host) override;
  void swap_in(uint32_t host, uint32_t block) override;
  void start_sequence(uint32_t slot, const sequence_start& start,
                      std::span<const float> frequencies, bool samples) override;
  void extend_table(uint32_t slot, size_t first, std::span<const uint32_t> blocks) override;

  // cuda_backend.cpp
  tensor_view matrix(scratch which, size_t rows, size_t columns) override;
  size_t begin_step(const step_layout& layout) override;
  size_t logits_rows() const override { return work_.limits().logits_rows; }
  size_t group_rows(size_t first) const override;
  bool replay() override;
  void end_pass() override;
  bool has_rehearsals() const override { return !rehearsals_.empty(); }
  size_t rehearse() override;
  step_ticket finish_step(std::function<void()> done) override;
  void wait(step_ticket ticket) override;
  uint64_t device_ns() const override { return device_ns_; }
  bool runs_ahead() const override { return true; }
  void receive(const models::activation& from, tensor_view out) override;
  models::activation send(tensor_view from, size_t rows) override;
  void read_row(tensor_view from, size_t row, std::span<float> out) override;

  // cuda_backend_layers.cpp
  void embed(const table_weight& table, const table_weight* positions_table,
             tensor_view out) override;
  void norm_picked(const norm_weight& weight, tensor_view in, size_t first,
                   tensor_view out) override;
  void linear(const linear_weight& weight, tensor_view in, tensor_view out,
              bool accumulate) override;
  void norm_linear(const norm_weight& norm, const linear_weight& weight, tensor_view in,
                   tensor_view normed, tensor_view out) override;
  void norm_linear_activated(const norm_weight& norm, const linear_weight& weight,
                             activation_function function, tensor_view in, tensor_view normed,
                             tensor_view out) override;
  void attention(uint32_t layer, tensor_view qkv, const norm_weight* q_norm,
                 const norm_weight* k_norm, uint32_t window, tensor_view out) override;
  void sample(tensor_view logits, size_t first) override;

private:
  std::byte* block(uint32_t index) const {
    return pages_.as<std::byte>(size_t{index} * block_bytes_);
  }
  kv_pages pages_of(uint32_t layer) const;
  /// Null: our own kernels, whose bits do not depend on the number of rows, serve every size.
  gemm_library* products() const { return options_.batch_invariant ? nullptr : gemm_.get(); }
  launcher on() const { return {stream_.get(), traits_, true}; }
  void require_room(uint32_t slot);
  void collect_requests(const step_layout& layout);
  void plan_rehearsals();
  void upload(const step_layout& layout);
  void count_histories();
  std::unique_ptr<step_record> take_record();
  void recycle(std::unique_ptr<step_record> record);
  void choose_sizes(const step_layout& layout);

  device_backend_options options_;
  device_traits traits_;
  stream stream_;
  workspace work_;
  slot_state slots_;
  std::unique_ptr<gemm_library> gemm_;
  std::unique_ptr<uploader> upload_; ///< While loading.
  std::unordered_map<uint32_t, pinned_buffer> swapped_;
  std::vector<pinned_buffer> spare_swaps_;
  uint64_t weight_bytes_ = 0;

  attention_shape shape_;
  size_t layer_bytes_ = 0; ///< Of one block.
  size_t block_bytes_ = 0;
  device_buffer pages_;
  device_buffer counts_;  ///< [slots, V], how often each token occurred; only where it ends.
  device_buffer input_;   ///< The step's block (step_input.hpp).
  device_buffer results_; ///< draw_result by picked token.
  device_buffer top_;
  std::shared_ptr<passed_buffers> passed_;
  recordings recordings_;
  std::deque<pass_key> rehearsals_; ///< Kinds of steps to be recorded in idle time.

  struct new_history {
    uint32_t slot = 0;
    uint32_t first = 0; ///< Into histories_.
    uint32_t length = 0;
    uint32_t prompt = 0;
  };
  std::vector<int32_t> histories_; ///< To be counted before the next step.
  std::vector<new_history> new_histories_;

  // The step that is being enqueued.
  std::unique_ptr<step_record> record_;
  step_sizes sizes_;
  step_places places_;
  step_arrays arrays_;
  bool one_token_rows_ = true;
  bool has_one_token_row_ = false;
  bool has_top_ = false;
  bool recordable_ = false;
  bool plain_greedy_ = true;
  uint32_t context_ = 0; ///< Class of the longest row.
  uint32_t tile_count_ = 0;
  std::vector<query_tile> tiles_;
  std::vector<draw_request> requests_;

  uint64_t next_ticket_ = 1;
  uint64_t device_ns_ = 0; ///< Of the step last waited for.
  std::vector<std::unique_ptr<step_record>> spare_;
  std::deque<std::unique_ptr<step_record>> running_;
  completion_thread completion_; ///< Last: it ends before what it looks at.
};

} // namespace troupe::models::cuda
