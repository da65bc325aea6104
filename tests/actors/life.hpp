#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "stage.hpp"
#include "troupe/actors/engine.hpp"
#include "troupe/models/tokenizer/byte_tokenizer.hpp"

/// An engine over fake stages, all of it under a test's hand: no thread, no clock, no arithmetic.
namespace troupe::test {

/// What the fake stages do; shared with the test, which may change it at any time.
struct fake_model {
  /// Draws the token that follows a sequence; the default depends on every token before it.
  std::function<int32_t(const std::vector<int32_t>& history, uint32_t prompt_length)> next =
      [](const std::vector<int32_t>& history, uint32_t) {
        uint32_t mix = 17;
        for (auto token : history)
          mix = mix * 31 + static_cast<uint32_t>(token);
        return static_cast<int32_t>('a' + mix % 26);
      };
  /// Log-probability of whatever is drawn.
  std::function<float(const sampling_params&)> logprob = [](const sampling_params&) {
    return -0.5f;
  };
  /// Asked before each forward pass of each shard; an error is the stage's answer.
  std::function<caf::error(uint32_t shard, const step& s)> fault;
  /// Asked for each row that draws; ec::none lets it pass.
  std::function<ec(const step_row& row)> row_fault;
  /// Asked when a stage is made.
  std::function<caf::error(uint32_t shard)> load_fault;
  models::model_info info;
  uint32_t kv_blocks = 64;
  uint32_t candidates = 100; ///< As many continuations a row has at most.
  uint32_t made = 0;         ///< Stages so far.

  fake_model() {
    info.architecture = "FakeForCausalLM";
    info.layers = 4;
    info.hidden = 1;
    info.vocabulary = 259;
    info.context = 512;
    info.weight_bytes = 1000;
    info.eos_tokens = {257};
  }
};

class fake_stage : public models::stage {
public:
  fake_stage(std::shared_ptr<fake_model> model, uint32_t index, uint32_t count)
      : model_(std::move(model)), index_(index), count_(count) {}

  caf::expected<models::stage_output> forward(const step& s,
                                              const models::activation& input) override {
    skip(s);
    if (model_->fault)
      if (auto err = model_->fault(index_, s))
        return err;
    models::stage_output out;
    auto rows = static_cast<int64_t>(s.tokens.size());
    if (index_ > 0 && input.rows() != rows)
      return caf::make_error(ec::step_fault, std::string{"activation of another step"});
    if (index_ + 1 < count_) {
      out.passed = models::activation::from_bytes(models::dtype::uint8, rows, 1,
                                                  std::vector<std::byte>(rows));
      return out;
    }
    out.result.epoch = s.epoch;
    out.result.id = s.id;
    for (const auto& row : s.rows)
      out.result.rows.push_back(run(row));
    return out;
  }

  void skip(const step& s) override {
    for (auto id : s.dropped)
      known_.erase(id);
    for (const auto& start : s.starts)
      known_[start.sequence] = {start.history, start.prompt_length, start.sampling};
    for (const auto& row : s.rows) {
      auto& history = known_[row.sequence].history;
      if (history.size() < row.position + row.token_count)
        history.resize(row.position + row.token_count);
      std::copy_n(s.tokens.begin() + row.first_token, row.token_count,
                  history.begin() + row.position);
    }
  }

  uint64_t weight_bytes() const override { return 500; }
  uint64_t kv_bytes() const override { return 1024; }

private:
  struct sequence {
    std::vector<int32_t> history;
    uint32_t prompt_length = 0;
    sampling_params sampling;
  };

  row_result run(const step_row& row) {
    row_result result;
    result.sequence = row.sequence;
    const auto& known = known_[row.sequence];
    auto end = row.position + row.token_count;
    if (row.wants.prompt_logprobs)
      for (auto i = row.position + 1; i <= end && i < known.prompt_length; ++i) {
        result.prompt.push_back({known.history[i], -static_cast<float>(i)});
        result.prompt_top.push_back({{known.history[i], -static_cast<float>(i)}});
      }
    if (row.wants.hidden_state)
      for (uint32_t i = row.wants.all_hidden ? 0 : row.token_count - 1; i < row.token_count; ++i)
        result.hidden.insert(
            result.hidden.end(),
            {1.0f, static_cast<float>(known.history[row.position + i] % 7), 1.0f + i});
    if (!row.wants.sample && row.wants.candidates == 0)
      return result;
    if (model_->row_fault) {
      result.fault = model_->row_fault(row);
      if (result.fault != ec::none) {
        result.fault_text = "the row is poisoned";
        return result;
      }
    }
    std::vector<int32_t> history(known.history.begin(), known.history.begin() + end);
    const auto token = model_->next(history, known.prompt_length);
    for (uint16_t i = 0; i < row.wants.top_n; ++i)
      result.top.push_back({token + i, -0.5f - static_cast<float>(i)});
    if (row.wants.candidates == 0) {
      result.token = token;
      result.logprob = model_->logprob(known.sampling);
      return result;
    }
    const auto count = std::min<uint32_t>(row.wants.candidates, model_->candidates);
    for (uint32_t i = 0; i < count; ++i) {
      result.candidates.push_back({token + static_cast<int32_t>(i), -0.5f - static_cast<float>(i)});
      result.candidate_logprobs.push_back(-0.5f - static_cast<float>(i));
    }
    return result;
  }

  std::shared_ptr<fake_model> model_;
  uint32_t index_ = 0;
  uint32_t count_ = 1;
  std::map<sequence_id, sequence> known_;
};

/// What a sink saw.
struct recording {
  std::vector<event_batch> batches;
  bool grants = true; ///< Credit goes back at once.
  request_actor request;

  std::vector<token_event> tokens(uint32_t choice = 0) const {
    std::vector<token_event> all;
    for (const auto& batch : batches)
      for (const auto& token : batch.tokens)
        if (token.choice == choice)
          all.push_back(token);
    return all;
  }
  std::string text(uint32_t choice = 0) const {
    std::string all;
    for (const auto& token : tokens(choice))
      all += token.token.text;
    return all;
  }
  std::vector<choice_event> ends() const {
    std::vector<choice_event> all;
    for (const auto& batch : batches)
      all.insert(all.end(), batch.ends.begin(), batch.ends.end());
    return all;
  }
  std::vector<prompt_event> prompts() const {
    std::vector<prompt_event> all;
    for (const auto& batch : batches)
      all.insert(all.end(), batch.prompt.begin(), batch.prompt.end());
    return all;
  }
  bool complete() const { return !batches.empty() && batches.back().complete; }
  caf::error failure() const { return batches.empty() ? caf::error{} : batches.back().failure; }
  /// Terminal events; never more than one.
  size_t terminals() const {
    size_t n = 0;
    for (const auto& batch : batches)
      n += (batch.complete ? 1 : 0) + (batch.failure ? 1 : 0);
    return n;
  }
  uint64_t weight() const {
    uint64_t sum = 0;
    for (const auto& batch : batches)
      sum += batch.weight;
    return sum;
  }
};
using recording_ptr = std::shared_ptr<recording>;

inline event_sink::behavior_type recording_sink(event_sink::pointer self, recording_ptr seen) {
  return {
      [=](event_batch& batch) {
        auto weight = batch.weight;
        auto last = batch.complete || batch.failure;
        seen->batches.push_back(std::move(batch));
        auto sender = caf::actor_cast<request_actor>(self->current_sender());
        if (last)
          self->quit();
        else if (seen->grants && sender)
          self->send(sender, credit_atom_v, weight);
      },
  };
}

class life : public stage {
public:
  life() {
    settings.factories.detached = false;
    settings.factories.plan = [model = model](const models::load_options& options) {
      return plan(model, options);
    };
    settings.factories.text = [](const model_spec&) -> caf::expected<text_tools> {
      return text_tools{byte_tokenizer(), byte_chat_template(), false};
    };
    settings.memory_bytes = 1 << 20;
    spec.name = "m";
    spec.load.max_sequences = 32;
    spec.load.max_step_tokens = 64;
    spec.loading_timeout_ms = 0;
  }

  ~life() {
    if (engine)
      stop_engine(engine);
    engine = nullptr;
    run();
  }

  static caf::expected<models::model_plan> plan(std::shared_ptr<fake_model> model,
                                                const models::load_options& options) {
    models::model_plan p;
    p.info = model->info;
    p.kv_blocks = model->kv_blocks;
    p.kv_block_tokens = options.kv_block_tokens;
    p.kv_block_bytes = 64;
    for (uint32_t i = 0; i < options.shards; ++i)
      p.stages.push_back([=](const models::load_progress& progress)
                             -> caf::expected<std::unique_ptr<models::stage>> {
        if (model->load_fault)
          if (auto err = model->load_fault(i))
            return err;
        ++model->made;
        progress(500, 500);
        return std::unique_ptr<models::stage>{new fake_stage{model, i, options.shards}};
      });
    return p;
  }

  /// Spawns the engine and loads `spec` into it.
  void start() {
    engine = spawn_engine(sys, metrics, settings);
    REQUIRE(load(spec));
  }

  caf::expected<model_status> load(const model_spec& s) {
    return ask<model_status>(engine, load_atom_v, s);
  }

  model_status status(size_t i = 0) {
    auto all = ask<std::vector<model_status>>(engine, status_atom_v);
    REQUIRE(all);
    REQUIRE(all->size() > i);
    return (*all)[i];
  }

  telemetry::model_metrics& numbers() { return *metrics->model(spec.name); }

  static generation_request request(std::string_view text, int64_t tokens) {
    generation_request r;
    r.id = "r";
    r.input.text = text;
    r.params.max_new_tokens = tokens;
    r.params.stream = true;
    r.params.ignore_eos = true;
    return r;
  }

  /// Puts a request in without letting anything run.
  recording_ptr put(generation_request r, bool grants = true) {
    auto seen = std::make_shared<recording>();
    seen->grants = grants;
    auto sink = sys.spawn(recording_sink, seen);
    sinks.push_back(sink);
    caf::anon_send(sys.spawn(asker, engine, std::move(r), sink, seen), submit_atom_v);
    return seen;
  }

  /// Puts a request in and lets everything run to its end.
  recording_ptr generate(generation_request r) {
    auto seen = put(std::move(r));
    run();
    return seen;
  }

  /// Handles messages until `done` or none is left.
  template <class F>
  bool run_until(F done) {
    while (!done())
      if (!step())
        return false;
    return true;
  }

  /// Lets messages run until an actor of that name has one waiting. Null if none ever has.
  caf::strong_actor_ptr find(std::string_view name) {
    auto& jobs = dynamic_cast<caf::scheduler::test_coordinator&>(sys.scheduler()).jobs;
    caf::scheduled_actor* found = nullptr;
    run_until([&] {
      for (auto* job : jobs)
        if (auto* actor = dynamic_cast<caf::scheduled_actor*>(job); actor && actor->name() == name)
          found = actor;
      return found != nullptr;
    });
    return caf::actor_cast<caf::strong_actor_ptr>(found);
  }

  /// Finds such an actor and kills it.
  bool kill(std::string_view name) {
    auto victim = find(name);
    if (victim)
      caf::anon_send_exit(victim, caf::exit_reason::kill);
    return victim != nullptr;
  }

  std::shared_ptr<fake_model> model = std::make_shared<fake_model>();
  telemetry::metrics_ptr metrics = std::make_shared<telemetry::metrics>();
  engine_settings settings{model_factories{}, 0};
  model_spec spec;
  engine_actor engine;
  std::vector<event_sink> sinks;

private:
  /// Submits a request; a refusal is recorded as if the request had failed.
  static caf::behavior asker(caf::event_based_actor* self, engine_actor engine,
                             generation_request r, event_sink sink, recording_ptr seen) {
    return {
        [=](submit_atom) {
          self->request(engine, caf::infinite, submit_atom_v, r, sink)
              .then(
                  [=](const request_actor& actor) {
                    seen->request = actor;
                    self->quit();
                  },
                  [=](caf::error& err) {
                    event_batch refusal;
                    refusal.failure = std::move(err);
                    seen->batches.push_back(std::move(refusal));
                    self->quit();
                  });
        },
    };
  }
};

} // namespace troupe::test
