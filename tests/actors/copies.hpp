#pragma once

#include <catch2/catch.hpp>

#include "life.hpp"

namespace troupe::test {

/// A model on a machine with GPUs that are fakes, each with room for so many copies.
class copies : public life {
public:
  explicit copies(uint32_t gpus = 2, uint32_t gpus_a_copy = 1) {
    spec.retry_threshold = 1;
    spec.load.max_sequences = 8;
    for (uint32_t i = 0; i < gpus; i += gpus_a_copy) {
      groups.emplace_back();
      for (uint32_t j = 0; j < gpus_a_copy; ++j)
        groups.back().push_back(static_cast<int32_t>(i + j));
      on.push_back(std::make_shared<fake_model>());
      room.push_back(std::make_shared<uint32_t>(1));
      steps.push_back(0);
      on.back()->fault = [this, place = on.size() - 1](uint32_t, const troupe::step& s) {
        ++steps[place];
        return fault ? fault(place, s) : caf::error{};
      };
    }
    settings.factories.plan = [this](const models::load_options& options) {
      auto plan = plan_at(0, options);
      if (!plan)
        return plan;
      plan->groups = groups;
      plan->groups_chosen = chosen;
      plan->another = [this, options](size_t group) { return plan_at(group, options); };
      return plan;
    };
  }

  ~copies() {
    if (engine)
      stop_engine(engine);
    engine = nullptr;
    run();
  }

  caf::expected<models::model_plan> plan_at(size_t place, const models::load_options& options) {
    if (*room[place] == 0)
      return caf::make_error(ec::out_of_memory, std::string{"one more copy does not fit"});
    auto plan = life::plan(on[place], options);
    plan->devices = groups[place];
    if (planned)
      planned(place);
    // Given back with the last stage that was made of it.
    --*room[place];
    std::shared_ptr<void> held{nullptr, [left = room[place]](void*) { ++*left; }};
    for (auto& make : plan->stages)
      make = [held, make = std::move(make)](const models::load_progress& progress) {
        return make(progress);
      };
    return plan;
  }

  static worker_scaling numbers_of(int64_t min, int64_t max, std::vector<int32_t> devices = {}) {
    return {"m", "", min, max, std::move(devices)};
  }

  caf::expected<std::vector<model_status>> scale(int64_t min, int64_t max,
                                                 std::vector<int32_t> devices = {}) {
    return ask<std::vector<model_status>>(engine, numbers_of(min, max, std::move(devices)));
  }

  /// Asks for it without letting anything run.
  void begin_to_scale(int64_t min, int64_t max, std::vector<int32_t> devices = {}) {
    caf::anon_send(engine, numbers_of(min, max, std::move(devices)));
  }

  /// The ids of the workers of each group.
  std::vector<std::vector<uint32_t>> workers() {
    std::vector<std::vector<uint32_t>> all;
    for (const auto& group : status().groups) {
      all.emplace_back();
      for (const auto& worker : group.workers)
        all.back().push_back(worker.id);
    }
    return all;
  }

  static std::string prompt_of(size_t i) { return "prompt number " + std::to_string(i * i); }

  std::vector<recording_ptr> put_all(size_t count, int64_t tokens) {
    std::vector<recording_ptr> all;
    for (size_t i = 0; i < count; ++i)
      all.push_back(put(request(prompt_of(i), tokens)));
    return all;
  }

  /// What a single undisturbed copy says.
  std::vector<std::string> undisturbed(size_t count, int64_t tokens) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < count; ++i)
      texts.push_back(generate(request(prompt_of(i), tokens))->text());
    return texts;
  }

  /// Every stream ended once, with the tokens it would have had, and nothing is left of it.
  void check_all(const std::vector<recording_ptr>& all, const std::vector<std::string>& texts) {
    for (size_t i = 0; i < all.size(); ++i) {
      INFO("stream " << i);
      CHECK(all[i]->complete());
      CHECK(all[i]->terminals() == 1);
      CHECK(all[i]->prompts().size() == 1);
      CHECK(all[i]->text() == texts[i]);
    }
    check_clean();
  }

  void check_clean() {
    CHECK(numbers().blocks_used.value() == 0);
    CHECK(numbers().running.value() == 0);
    CHECK(numbers().waiting.value() == 0);
    CHECK(status().queued == 0);
  }

  device_groups groups;
  bool chosen = false;
  std::vector<std::shared_ptr<fake_model>> on; ///< By place.
  std::vector<std::shared_ptr<uint32_t>> room; ///< For copies, by place.
  std::vector<uint32_t> steps;                 ///< So far, by place.
  std::function<caf::error(size_t place, const troupe::step& s)> fault;
  std::function<void(size_t place)> planned;
};

} // namespace troupe::test
