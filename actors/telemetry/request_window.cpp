#include "troupe/actors/telemetry/request_window.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "troupe/actors/telemetry/log.hpp"

namespace troupe::telemetry {

namespace {

/// The smallest value that at least this share of `values` does not exceed.
int64_t percentile(std::vector<int64_t>& values, double share) {
  auto place = static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5);
  auto at = values.begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

} // namespace

request_window::request_window(model_metrics_ptr numbers, size_t every)
    : numbers_(std::move(numbers)), every_(std::max<size_t>(every, 1)) {}

void request_window::add(const request_sample& sample) {
  std::vector<request_sample> full;
  std::vector<int64_t> batches;
  {
    std::lock_guard lock{guard_};
    samples_.push_back(sample);
    if (samples_.size() < every_)
      return;
    full.swap(samples_);
    batches.swap(batches_);
  }
  close(std::move(full), std::move(batches));
}

void request_window::add_batch(int64_t calls) {
  std::lock_guard lock{guard_};
  batches_.push_back(calls);
}

void request_window::close(std::vector<request_sample> samples,
                           std::vector<int64_t> batches) const {
  std::string line = "of the last " + std::to_string(samples.size()) + " requests of model '" +
                     numbers_->model + "', median and 90th percentile:";
  auto sum_up = [&](quantiles& to, const char* name, auto value_of) {
    std::vector<int64_t> values;
    for (const auto& sample : samples)
      values.push_back(static_cast<int64_t>(value_of(sample)));
    to.median.set(percentile(values, 0.5));
    to.ninetieth.set(percentile(values, 0.9));
    line += std::string{" "} + name + " " + std::to_string(to.median.value()) + " " +
            std::to_string(to.ninetieth.value()) + ",";
  };
  auto& n = *numbers_;
  sum_up(n.prediction, "Prediction (us)", [](auto& x) { return x.seconds * 1e6; });
  sum_up(n.preprocess, "Preprocess (us)", [](auto& x) { return x.preparing * 1e6; });
  sum_up(n.inference, "Inference (us)", [](auto& x) { return x.computing * 1e6; });
  sum_up(n.postprocess, "Postprocess (us)", [](auto& x) { return x.writing * 1e6; });
  sum_up(n.token_latency, "TokenLatency (us)", [](auto& x) {
    return x.tokens > 0 ? x.seconds * 1e6 / static_cast<double>(x.tokens) : 0;
  });
  sum_up(n.token_throughput, "TokenThroughput (tokens/s)",
         [](auto& x) { return x.seconds > 0 ? static_cast<double>(x.tokens) / x.seconds : 0; });
  sum_up(n.output_tokens, "OutputTokens", [](auto& x) { return static_cast<double>(x.tokens); });
  sum_up(n.batch_size, "RollingBatchSize", [](auto& x) { return static_cast<double>(x.batch); });
  if (!batches.empty())
    line += " DynamicBatchSize " + std::to_string(percentile(batches, 0.5)) + " " +
            std::to_string(percentile(batches, 0.9)) + ",";
  line.pop_back();
  n.windows.add();
  log(log_level::info, {}, line);
}

} // namespace troupe::telemetry
