#pragma once

#include <catch2/catch.hpp>
#include <functional>

#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "../fake_stage.hpp"
#include "fake_search.hpp"
#include "troupe/actors/scheduling/batching.hpp"
#include "troupe/actors/scheduling/pipeline.hpp"

namespace troupe::test {

/// The policy on fake stages, one call after the other: `launch` starts a step, `land` ends the
/// oldest. After each the policy must agree with itself.
class rig {
public:
  /// What a sequence got so far.
  struct record {
    new_sequence spec;
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    std::vector<float> prompt_logprobs;
    uint32_t cached = 0;
    std::vector<sequence_output> outputs;
    std::optional<sequence_end> end;
    caf::error fault;
    bool finished = false;
  };

  static scheduling::batching_limits small_limits() {
    scheduling::batching_limits l;
    l.max_step_tokens = 16;
    l.max_sequences = 4;
    l.max_waiting = 100;
    l.blocks = 64;
    l.block_tokens = 4;
    return l;
  }

  explicit rig(scheduling::batching_limits limits = small_limits(), uint32_t depth = 1,
               fake_trouble trouble = nullptr)
      : limits(limits), policy(limits), trouble_(std::move(trouble)) {
    restart(depth);
  }

  /// On stages of a real model.
  rig(scheduling::batching_limits limits, std::vector<std::unique_ptr<models::stage>> real)
      : stages(std::move(real)), limits(limits), policy(limits) {
    pipe.open(epoch_id{++epoch_}, static_cast<uint32_t>(stages.size()), limits.ahead ? 1 : 0);
  }

  /// New shards with empty caches.
  void restart(uint32_t depth) {
    stages.clear();
    for (uint32_t i = 0; i < depth; ++i) {
      fake_stage_options o;
      o.layer = i;
      o.layers = depth;
      o.blocks = limits.blocks;
      o.block_tokens = limits.block_tokens;
      o.max_step_tokens = limits.max_step_tokens;
      if (i + 1 == depth) {
        o.trouble = trouble_;
        o.row_trouble = [this](const step_row& row) {
          return row_trouble ? row_trouble(row) : std::string{};
        };
      }
      stages.push_back(std::make_unique<fake_stage>(o));
    }
    pipe.open(epoch_id{++epoch_}, depth, limits.ahead ? 1 : 0);
  }

  /// The shards died: everything in flight is gone.
  void lose(uint32_t depth) {
    flying.clear();
    policy.lose_all();
    check();
    restart(depth);
  }

  /// All KV is lost, as when a shard died, but the stages are the same.
  void forget() {
    flying.clear();
    policy.lose_all();
    check();
    pipe.open(epoch_id{++epoch_}, static_cast<uint32_t>(stages.size()), limits.ahead ? 1 : 0);
  }

  static new_sequence make(std::vector<int32_t> prompt, uint32_t count) {
    new_sequence s;
    s.prompt = std::move(prompt);
    s.max_new_tokens = count;
    return s;
  }

  /// A prompt of its own: n tokens from `first` on.
  static std::vector<int32_t> words(int32_t first, size_t n) {
    std::vector<int32_t> result(n);
    std::iota(result.begin(), result.end(), first);
    return result;
  }

  sequence_id submit(new_sequence s) {
    auto copy = s;
    auto place = policy.admit(std::move(s));
    REQUIRE(place);
    records[place->sequence].spec = std::move(copy);
    check();
    return place->sequence;
  }

  sequence_id submit(std::vector<int32_t> prompt, uint32_t count) {
    return submit(make(std::move(prompt), count));
  }

  /// Starts one step. False when there is no room or nothing to run.
  bool launch() {
    if (!pipe.has_room())
      return false;
    step s;
    if (!policy.next(pipe.depth(), s))
      return false;
    pipe.launch(s);
    policy.launched(s.id);
    check();
    CHECK(s.tokens.size() <= limits.max_step_tokens);
    flying.push_back(std::move(s));
    return true;
  }

  /// Ends the oldest step in flight. False when there is none.
  bool land() {
    if (flying.empty())
      return false;
    auto s = std::move(flying.front());
    flying.pop_front();
    REQUIRE(pipe.land(s.epoch, s.id));
    models::activation passed;
    caf::error failure;
    step_result result;
    for (auto& stage : stages) {
      if (failure) {
        stage->skip(s);
        continue;
      }
      auto output = stage->forward(s, passed);
      if (!output) {
        failure = output.error();
        continue;
      }
      passed = output->passed;
      result = std::move(output->result);
    }
    std::vector<scheduling::sequence_event> events;
    if (failure) {
      policy.fail(s.id, failure, events);
    } else {
      result.epoch = s.epoch;
      result.id = s.id;
      result.compute_ns = step_ns ? step_ns(s) : 0;
      policy.apply(result, events);
    }
    check();
    for (auto& e : events)
      take(e);
    done.push_back(std::move(s));
    return true;
  }

  /// Runs to the end, always with as many steps in flight as possible.
  void run() {
    for (int i = 0; i < 100000; ++i) {
      while (launch()) {
      }
      if (!land())
        return;
    }
    FAIL("the schedule doesn't end");
  }

  void finish(sequence_id id) {
    if (policy.finish(id))
      records[id].finished = true;
    check();
  }

  /// Did it say exactly what the model says, no matter how it was scheduled?
  void expect_reference(sequence_id id) {
    const auto& r = records.at(id);
    if (r.spec.search.kind != search_kind::none)
      return expect_found(r);
    auto reference =
        fake_generate(r.spec.prompt, static_cast<uint32_t>(r.tokens.size()),
                      static_cast<uint32_t>(stages.size()), r.spec.sampling, r.spec.rope_base);
    CHECK(r.tokens == reference.generated);
    CHECK(r.logprobs == reference.logprobs);
    if (r.spec.wants.prompt_logprobs && !r.tokens.empty())
      CHECK(r.prompt_logprobs == reference.prompt_logprobs);
  }

  void expect_complete(sequence_id id) {
    const auto& r = records.at(id);
    CHECK(!r.fault);
    if (r.spec.search.kind == search_kind::none)
      CHECK(r.tokens.size() == r.spec.max_new_tokens);
    CHECK(r.end == sequence_end::length);
    expect_reference(id);
  }

  /// Nobody is left: every block is free or cached.
  void expect_empty() {
    auto l = policy.load();
    CHECK(l.running == 0);
    CHECK(l.waiting == 0);
    CHECK(l.blocks_used == 0);
    CHECK(l.blocks_shared == 0);
    CHECK(policy.live().empty());
  }

  void check() {
    auto problem = policy.audit();
    if (!problem.empty())
      FAIL(problem);
  }

  std::vector<std::unique_ptr<models::stage>> stages;
  scheduling::batching_limits limits;
  scheduling::batching policy;
  scheduling::pipeline pipe;
  std::deque<step> flying; ///< In flight.
  std::vector<step> done;  ///< Over, whatever came of them.
  std::map<sequence_id, record> records;
  std::function<std::string(const step_row&)> row_trouble;
  std::function<uint64_t(const step&)> step_ns;

private:
  /// A search found what it finds when nothing gets in its way; what did not get to its end is at
  /// least a beginning of it.
  void expect_found(const record& r) const {
    const auto reference = fake_search(r.spec, static_cast<uint32_t>(stages.size()));
    REQUIRE(r.tokens.size() <= reference.tokens.size());
    CHECK(std::equal(r.tokens.begin(), r.tokens.end(), reference.tokens.begin()));
    CHECK(std::equal(r.logprobs.begin(), r.logprobs.end(), reference.logprobs.begin()));
    if (!r.end)
      return;
    CHECK(r.tokens.size() == reference.tokens.size());
    CHECK(r.end == reference.end);
    REQUIRE(r.outputs.size() == reference.outputs.size());
    for (size_t i = 0; i < r.outputs.size(); ++i) {
      CHECK(r.outputs[i].score == reference.outputs[i].score);
      CHECK(tokens_of(r.outputs[i]) == tokens_of(reference.outputs[i]));
    }
  }

  void take(scheduling::sequence_event& e) {
    auto& r = records.at(e.sequence);
    // Nothing may follow an end.
    CHECK(!r.end);
    CHECK(!r.fault);
    CHECK(!r.finished);
    if (e.has_token) {
      CHECK(e.first == r.tokens.empty());
      if (e.first) {
        r.cached = e.cached_tokens;
        for (auto& x : e.row.prompt)
          r.prompt_logprobs.push_back(x.value);
      }
      r.tokens.push_back(e.row.token);
      r.logprobs.push_back(e.row.logprob);
    }
    if (e.end)
      r.outputs = std::move(e.outputs);
    r.end = e.end;
    r.fault = e.fault;
  }

  fake_trouble trouble_;
  uint32_t epoch_ = 0;
};

/// The small limits, changed.
inline scheduling::batching_limits
with(const std::function<void(scheduling::batching_limits&)>& change) {
  auto l = rig::small_limits();
  change(l);
  return l;
}

} // namespace troupe::test
