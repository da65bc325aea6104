// Decode steps of a model by themselves, without scheduler and server: what a step takes on the
// device, and what launching one costs the host.
//
//   step_bench FOLDER [BATCH]... [--eager] [--type bf16] [--bits 8|4]     random weights of
//   FOLDER's config.json

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "troupe/models/stage.hpp"

namespace {

using namespace troupe;
using clock_type = std::chrono::steady_clock;

double since(clock_type::time_point begin) {
  return std::chrono::duration<double, std::milli>(clock_type::now() - begin).count();
}

[[noreturn]] void die(const caf::error& why) {
  std::fprintf(stderr, "step_bench: %s\n", text_of(why).c_str());
  std::exit(1);
}

/// Plays scheduler for sequences of one length.
class driver {
public:
  driver(models::model_plan plan, std::unique_ptr<models::stage> stage)
      : plan_(std::move(plan)), stage_(std::move(stage)) {}

  void measure(uint32_t batch, uint32_t prompt, uint32_t steps) {
    std::vector<uint64_t> ids;
    for (uint32_t i = 0; i < batch; ++i)
      ids.push_back(next_sequence_++);
    const auto begin = clock_type::now();
    const uint32_t at_once = std::max(1u, plan_.max_step_tokens / prompt);
    for (uint32_t first = 0; first < batch; first += at_once)
      finish(launch(ids, 0, prompt, first, std::min(batch, first + at_once)));
    const double prefill = since(begin);
    std::vector<double> walls, launches;
    auto running = launch(ids, prompt, 1, 0, batch);
    for (uint32_t k = 1; k < steps; ++k) {
      const auto at = clock_type::now();
      const auto next = launch(ids, prompt + k, 1, 0, batch);
      launches.push_back(since(at));
      finish(running);
      walls.push_back(since(at));
      running = next;
    }
    finish(running);
    const auto middle = [](std::vector<double>& x) {
      std::nth_element(x.begin(), x.begin() + static_cast<ptrdiff_t>(x.size() / 2), x.end());
      return x[x.size() / 2];
    };
    std::printf("batch %4u: prompts %8.2f ms, step %7.3f ms, %9.1f tok/s, launch %6.1f us\n", batch,
                prefill, middle(walls), batch / middle(walls) * 1e3, middle(launches) * 1e3);
    std::fflush(stdout);
    step s;
    for (auto id : ids)
      s.dropped.push_back(sequence_id{id});
    stage_->skip(s);
    next_block_ = 0;
  }

private:
  step_id launch(const std::vector<uint64_t>& ids, uint32_t position, uint32_t count,
                 uint32_t first, uint32_t last) {
    step s;
    s.id = step_id{next_step_++};
    for (uint32_t i = first; i < last; ++i) {
      step_row row;
      row.sequence = sequence_id{ids[i]};
      row.position = position;
      row.first_token = static_cast<uint32_t>(s.tokens.size());
      row.token_count = count;
      row.first_block = static_cast<uint32_t>(s.blocks.size());
      row.wants.sample = true;
      const auto per = plan_.kv_block_tokens;
      row.block_count = (position + count + per - 1) / per - (position + per - 1) / per;
      for (uint32_t b = 0; b < row.block_count; ++b)
        s.blocks.push_back(block_id{next_block_++});
      if (position == 0) {
        sequence_start start;
        start.sequence = row.sequence;
        start.prompt_length = count;
        for (uint32_t t = 0; t < count; ++t)
          start.history.push_back(static_cast<int32_t>(100 + (i * 7919 + t * 104729) % 30000));
        s.tokens.insert(s.tokens.end(), start.history.begin(), start.history.end());
        s.starts.push_back(std::move(start));
      } else {
        s.tokens.push_back(pending_token);
      }
      s.rows.push_back(row);
    }
    auto launched = stage_->launch(s, {}, nullptr);
    if (!launched)
      die(launched.error());
    return s.id;
  }

  void finish(step_id id) {
    auto result = stage_->collect(id);
    if (!result)
      die(result.error());
    for (const auto& row : result->rows)
      if (row.fault != ec::none)
        die(caf::make_error(row.fault, row.fault_text));
  }

  models::model_plan plan_;
  std::unique_ptr<models::stage> stage_;
  uint64_t next_sequence_ = 1;
  uint64_t next_step_ = 1;
  uint32_t next_block_ = 0;
};

} // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: step_bench FOLDER [BATCH]... [--eager] [--type bf16] [--bits 8|4]\n");
    return 1;
  }
  models::load_options options;
  options.folder = argv[1];
  options.devices = "cuda";
  options.device_map = "cuda";
  options.random_weights = true;
  options.max_model_len = 4096;
  options.max_step_tokens = models::by_device;
  std::vector<uint32_t> batches;
  for (int i = 2; i < argc; ++i) {
    if (std::string{argv[i]} == "--eager")
      options.cuda_graphs = false;
    else if (std::string{argv[i]} == "--type" && i + 1 < argc)
      options.dtype = argv[++i];
    else if (std::string{argv[i]} == "--bits" && i + 1 < argc)
      options.quantized =
          std::string{argv[++i]} == "8" ? models::quantization::int8 : models::quantization::fp4;
    else
      batches.push_back(static_cast<uint32_t>(std::atoi(argv[i])));
  }
  if (batches.empty())
    batches = {1, 16, 64, 128};
  options.max_sequences = *std::max_element(batches.begin(), batches.end());
  auto plan = models::plan_model(options);
  if (!plan)
    die(plan.error());
  auto stage = plan->stages[0]({});
  if (!stage)
    die(stage.error());
  driver d{std::move(*plan), std::move(*stage)};
  for (auto batch : batches) {
    d.measure(batch, 128, 8); // Recordings and choices are made.
    d.measure(batch, 128, 100);
  }
}
