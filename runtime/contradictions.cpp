#include "troupe/runtime/model_check.hpp"

#include "troupe/config/rolling_batch.hpp"

namespace troupe::runtime {

namespace {

using config::source;
using weight = finding::weight;

/// "option.dtype=fp16 (serving.properties:3)"
std::string said(const config::settings& s, size_t index) {
  const auto& o = config::option_table[index];
  return std::string{o.key} + '=' + to_text(o, s.at(index)) + " (" + s.origin_at(index).where + ')';
}

std::string said(const config::settings& s, config::key<> k) {
  return said(s, k.index());
}

/// Collects findings about one model's settings.
class judge {
public:
  judge(const config::settings& model, const config::settings& server, uint32_t context)
      : s_{model}, server_{server}, context_{context} {}

  std::vector<finding> run() {
    batching();
    devices();
    workers();
    lengths();
    quantization();
    metrics();
    return std::move(out_);
  }

private:
  bool set(config::key<> k) const { return s_.origin_of(k).from != source::fallback; }

  /// Set for this model, and no default that it takes from the server.
  bool own(config::key<> k) const {
    return set(k) && s_.origin_of(k).where != server_.origin_of(k).where;
  }

  void warn(std::string text) { out_.push_back({weight::warning, std::move(text)}); }

  void no_effect(config::key<> k, const std::string& because) {
    if (own(k))
      warn(said(s_, k) + " has no effect: " + because);
  }

  void batching() {
    auto mode = resolve_rolling_batch(s_, server_, {});
    if (!mode)
      return;
    if (mode->rolling) {
      no_effect("batch_size", "with rolling batch, option.max_rolling_batch_size counts");
      no_effect("max_batch_delay", "with rolling batch nothing waits for a batch to fill");
      return;
    }
    const bool asked =
        set("option.rolling_batch") && s_.text("option.rolling_batch") == "scheduler";
    if (asked)
      warn(said(s_, "option.rolling_batch") + " has no effect: " + said(s_, "batch_size") +
           " switches rolling batch off");
  }

  void devices() {
    if (set("option.device_map")) {
      const auto because = said(s_, "option.device_map") + " wins over it";
      no_effect("load_on_devices", because);
      if (s_.integer("option.device_id") >= 0)
        no_effect("option.device_id", because);
    } else if (s_.integer("option.device_id") >= 0) {
      no_effect("load_on_devices", said(s_, "option.device_id") + " wins over it");
    }
    const bool on_cpu = s_.text("load_on_devices") == "cpu" || s_.text("load_on_devices") == "-1" ||
                        s_.text("option.device_map") == "cpu";
    if (!on_cpu)
      return;
    const std::string because = "it is about GPUs, and the model runs on the CPU";
    no_effect("option.cuda_graphs", because);
    no_effect("option.gpu_memory_utilization", because);
    no_effect("option.batch_invariant", because);
    if (s_.text("option.dtype") == "fp16")
      warn(said(s_, "option.dtype") + " is computed as fp32 on the CPU; bf16 halves the memory");
  }

  void workers() {
    using integer_key = config::key<config::kind::integer, config::kind::bytes>;
    auto set_to = [&](integer_key k) { return s_.at(k.index()).index() != 0; };
    auto pair = [&](integer_key least, integer_key most) {
      if (set_to(least) && set_to(most) && s_.integer(least) > s_.integer(most))
        warn(said(s_, least.index()) + " is cut to " + said(s_, most.index()));
    };
    pair("minWorkers", "maxWorkers");
    pair("gpu.minWorkers", "gpu.maxWorkers");
    pair("cpu.minWorkers", "cpu.maxWorkers");
  }

  void lengths() {
    const auto longest = s_.integer("option.max_model_len");
    if (context_ > 0 && longest > context_)
      warn(said(s_, "option.max_model_len") + " is more than the model's context of " +
           std::to_string(context_) + " tokens, which counts");
    const auto step = s_.integer("option.max_step_tokens");
    if (step > 0 && step < s_.integer("option.max_rolling_batch_size"))
      warn(said(s_, "option.max_step_tokens") + " is less than " +
           said(s_, "option.max_rolling_batch_size") +
           ": that many sequences are not advanced in one step");
  }

  void quantization() {
    if (s_.boolean("option.load_in_8bit") && s_.boolean("option.load_in_4bit"))
      no_effect("option.load_in_8bit", said(s_, "option.load_in_4bit") + " wins over it");
    if (!s_.text("option.quantize").empty()) {
      const auto because = said(s_, "option.quantize") + " wins over it";
      no_effect("option.load_in_8bit", because);
      no_effect("option.load_in_4bit", because);
    }
  }

  void metrics() {
    if (!s_.boolean("log_request_metric"))
      no_effect("metrics_aggregation", "log_request_metric is not true");
  }

  const config::settings& s_;
  const config::settings& server_;
  uint32_t context_;
  std::vector<finding> out_;
};

} // namespace

std::vector<finding> contradictions(const config::settings& model, const config::settings& server,
                                    uint32_t context) {
  return judge{model, server, context}.run();
}

} // namespace troupe::runtime
