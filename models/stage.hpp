#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/activation.hpp"
#include "troupe/models/quantization.hpp"
#include "troupe/models/step.hpp"

/// The face that models/ shows to actors/: what a model is, what memory it takes, and the stages
/// (contiguous layers on one device) that shard actors own. No torch in this header.
namespace troupe::models {

/// Tokens per KV block unless an option says otherwise.
inline constexpr uint32_t default_kv_block_tokens = 16;

/// What the rest of the program needs to know of a model folder.
struct model_info {
  std::string architecture; ///< E.g. "LlamaForCausalLM".
  std::string folder;
  uint32_t layers = 0;
  uint32_t hidden = 0;
  uint32_t vocabulary = 0; ///< Width of the logits.
  uint32_t context = 0;    ///< Longest sequence, prompt and answer.
  uint64_t parameters = 0;
  uint64_t weight_bytes = 0;       ///< As loaded, in the compute dtype, all shards.
  uint64_t kv_bytes_per_token = 0; ///< All layers of all shards.
  std::vector<int32_t> eos_tokens; ///< generation_config.json overrides config.json.
  int32_t bos_token = -1;
  dtype compute = dtype::fp32;
  /// Set for dynamic rope scaling: the base is fixed at admission from the longest length a request
  /// can reach. Null otherwise.
  std::function<double(uint32_t max_length)> rope_base_for;
};

/// A switch whose best place differs from device to device.
enum class device_choice : uint8_t { by_device, on, off };

/// In place of a number: what suits the device.
inline constexpr uint32_t by_device = UINT32_MAX;
/// In place of a number of shards: one for each device, or for each core on the CPU.
inline constexpr uint32_t all_devices = UINT32_MAX - 1;

/// In place of bytes of host memory: what suits the device.
inline constexpr uint64_t host_bytes_by_device = UINT64_MAX;

/// How a model is to be loaded.
struct load_options {
  std::string folder;     ///< Ignored by the dummy model.
  bool dummy = false;     ///< A model without weights: real everything, free arithmetic.
  std::string dtype = ""; ///< fp32 | bf16 | fp16 | auto | "" (fp32 on CPU, auto on GPUs).
  quantization quantized = quantization::none; ///< Of the layers' matrices.
  uint32_t shards = 1;                         ///< Stages over the layers (tensor_parallel_degree).
  /// Where it may run: "cpu", "*" (on GPUs if there are any), or GPUs: "0;1", "gpu0;gpu1".
  std::string devices = "cpu";
  std::string device_map = ""; ///< As LMI's option.device_map; beats `devices`. Empty: none.
  double gpu_memory_utilization = 0.90; ///< Share of a GPU's memory that may be in use.
  bool cuda_graphs = true;              ///< Record decode steps and replay them.
  bool batch_invariant = false; ///< On GPUs too a row's bits do not depend on its neighbours.
  uint32_t dummy_step_us = 0;   ///< The dummy model takes so long for a step, as a device would.
  bool random_weights = false;  ///< Weights are drawn, not read; `folder` needs no weight files.
  uint32_t cpu_threads = 0;     ///< Over all stages; 0 = all cores.
  uint32_t max_model_len = 0;   ///< 0 = the model's own.
  uint32_t kv_block_tokens = default_kv_block_tokens;
  uint64_t kv_cache_bytes = 0; ///< 0 = min(25 % of free RAM, max_sequences x context).
  /// Host memory for the KV of preempted sequences; host_bytes_by_device: none on the CPU, on GPUs
  /// as much as the KV cache and no more than 25 % of free RAM.
  uint64_t kv_host_bytes = host_bytes_by_device;
  uint32_t max_sequences = 32;    ///< max_rolling_batch_size.
  uint32_t max_step_tokens = 512; ///< Scratch is sized for this many tokens in one step.
  uint64_t random_seed = 0;
  /// The next step is issued before the last one's tokens are known.
  device_choice schedule_ahead = device_choice::by_device;
  /// Steps in flight at a time; 0 = what keeps all stages busy.
  uint32_t steps_in_flight = 0;
  /// On GPUs: what the model is said to take at least, and what has to be free once it is loaded.
  uint64_t device_required_bytes = 0;
  uint64_t device_reserved_bytes = 0;
};

/// How far loading is. Called from the loading thread; must not block.
using load_progress = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;

/// One stage's answer to a step: an activation for the next stage, or, from the last one, the
/// result.
struct stage_output {
  activation passed;
  step_result result;
};

/// What a launched step gave at once.
struct launched_step {
  activation passed; ///< For the next stage; its content may still be on its way on the device.
  std::optional<step_result> result; ///< Of the last stage, when the step is already over.
};

/// Says that a launched step can be collected. Called once, from any thread, never from within
/// `launch` of the same step after that has failed.
using step_completion = std::function<void()>;

/// Contiguous layers on one device with their share of the KV pages. Used by one thread only (the
/// shard actor's), steps in the order of their ids.
class stage {
public:
  virtual ~stage() = default;

  /// Runs its layers over `s`. The first stage gets an empty activation.
  /// Errors: ec::step_fault (exception, the step's KV positions are distrusted; the stage stays
  /// usable), ec::out_of_memory, ec::device_lost (the stage is unusable).
  /// A fault of one row only is reported in that row's result.
  virtual caf::expected<stage_output> forward(const step& s, const activation& input) = 0;

  /// Starts `s` and comes back without waiting for a device; steps run in the order of their
  /// launches. The last stage's result is in the answer, or `done` says when `collect` has it. A
  /// stage before the last has nothing to collect. Errors: as `forward`.
  virtual caf::expected<launched_step> launch(const step& s, const activation& input,
                                              step_completion done) {
    static_cast<void>(done);
    auto output = forward(s, input);
    if (!output)
      return std::move(output.error());
    return launched_step{std::move(output->passed), std::move(output->result)};
  }

  /// The result of a launched step. Waits if `done` was not called yet. Errors: as `forward`;
  /// ec::internal: no such step.
  virtual caf::expected<step_result> collect(step_id id) {
    static_cast<void>(id);
    return caf::make_error(ec::internal, std::string{"the stage has no step in flight"});
  }

  /// The step was voided elsewhere: applies its bookkeeping (starts, blocks, dropped) without
  /// computing.
  virtual void skip(const step& s) = 0;

  /// Whether `idle_work` has something to do.
  virtual bool has_idle_work() const { return false; }

  /// Does one piece of what makes later steps faster, such as recording a kind of step that is
  /// likely to come. To be called while nothing is asked of the stage: takes about as long as two
  /// steps, waits for its device, and changes no sequence. @returns whether something is left.
  /// Errors: as `forward`.
  virtual caf::expected<bool> idle_work() { return false; }

  /// What moving one KV block to the host takes (ns), or back, as measured now: before the first
  /// step only. 0 = it cannot be moved. Errors: as `forward`.
  virtual caf::expected<uint64_t> measure_block_move() { return uint64_t{0}; }

  /// Bytes held for weights and for KV pages (allocated, touched or not).
  virtual uint64_t weight_bytes() const = 0;
  virtual uint64_t kv_bytes() const = 0;
};

/// Makes one stage; runs on the thread that will use it.
using stage_factory = std::function<caf::expected<std::unique_ptr<stage>>(const load_progress&)>;

/// One copy of a model, ready to be taken up by shard actors: everything is checked and planned,
/// nothing loaded.
struct model_plan {
  model_info info;
  uint32_t kv_block_tokens = default_kv_block_tokens;
  uint32_t kv_blocks = 0;      ///< On every stage.
  uint64_t kv_block_bytes = 0; ///< Of one block, over all stages.
  uint32_t kv_host_blocks = 0; ///< Host memory for preempted sequences, in blocks.
  /// What moving a block to the host takes (ns) on the slowest stage; 0 until all are loaded. Null
  /// without `kv_host_blocks`.
  std::shared_ptr<std::atomic<uint64_t>> block_move_ns;
  std::vector<stage_factory> stages; ///< In the order of their layers.
  std::vector<int32_t> devices;      ///< The GPU of each stage; empty: they are on the CPU.
  /// The GPUs that copies of the model may be on, those of one copy together. This plan is for the
  /// first group; empty: there is one copy only.
  std::vector<std::vector<int32_t>> groups;
  /// How many GPUs a copy takes was asked for, not found out.
  bool groups_chosen = false;
  /// Plans one more copy on the group with this index, with the memory that is free there now; it
  /// shares what was read of the folder. Blocks; any thread. Null where `groups` is empty. Errors:
  /// ec::out_of_memory, ec::device_lost.
  std::function<caf::expected<model_plan>(size_t group)> another;
  uint32_t max_step_tokens = 0; ///< What was decided; 0 = as in the options.
  /// Tokens below which cutting a prompt to keep several stages busy does not pay; 0 = the
  /// scheduler's own.
  uint32_t pipeline_chunk = 0;
  /// What a step costs beyond its tokens, in prompt tokens' time; 0 = the scheduler's own.
  double step_overhead_tokens = 0;
  /// What takes memory where, and how many users fit; one sentence each, for the log.
  std::vector<std::string> description;
  /// The next step may be issued before the last one's tokens are known; one stage only.
  bool schedules_ahead = false;
  /// Whether a row's token can be told only by the host, so that its sequence is not scheduled
  /// ahead. Null: never.
  std::function<bool(const sampling_params&, const row_wants&)> needs_host;
};

/// Reads config.json, checks every tensor's name, type and bounds, plans shards and memory.
/// The memory of GPUs that it counts on is held for it until its stages are made or it is gone.
/// Errors: ec::bad_model, ec::unsupported_model, ec::bad_option, ec::out_of_memory.
caf::expected<model_plan> plan_model(const load_options& options);

} // namespace troupe::models
