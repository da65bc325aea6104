#include "stage_driver.hpp"

#include <algorithm>
#include <random>
#include <stdexcept>

namespace troupe::test {

struct stage_driver::running {
  const generation* wanted = nullptr;
  generated* into = nullptr;
  sequence_id id{};
  std::vector<int32_t> history;
  size_t fed = 0; ///< Positions that the stages have computed.
  std::vector<uint32_t> blocks;
  bool introduced = false;
  uint32_t preemptions = 0;
  bool done = false;

  bool finished() const { return done || into->tokens.size() >= wanted->new_tokens; }
};

stage_driver::stage_driver(const models::load_options& options)
    : stage_driver([&] {
        auto plan = models::plan_model(options);
        if (!plan)
          throw std::runtime_error(text_of(plan.error()));
        return std::move(*plan);
      }()) {}

stage_driver::stage_driver(models::model_plan plan) : plan_(std::move(plan)) {
  for (auto& make : plan_.stages) {
    auto made = make({});
    if (!made)
      throw std::runtime_error(text_of(made.error()));
    stages_.push_back(std::move(*made));
  }
  for (uint32_t b = plan_.kv_blocks; b > 0; --b)
    free_blocks_.push_back(b - 1);
}

caf::expected<step_result> stage_driver::forward(const step& s) {
  models::activation passed;
  for (auto& stage : stages_) {
    auto out = stage->forward(s, passed);
    if (!out)
      return out.error();
    passed = out->passed;
    if (stage == stages_.back())
      return std::move(out->result);
  }
  throw std::logic_error("a model without stages");
}

void stage_driver::give_blocks(step& s, step_row& row, running& r) {
  const auto tokens = plan_.kv_block_tokens;
  const size_t needed = (r.fed + row.token_count + tokens - 1) / tokens;
  row.first_block = static_cast<uint32_t>(s.blocks.size());
  while (r.blocks.size() < needed) {
    if (free_blocks_.empty())
      throw std::runtime_error("the test ran out of KV blocks");
    r.blocks.push_back(free_blocks_.back());
    free_blocks_.pop_back();
    s.blocks.push_back(block_id{r.blocks.back()});
    ++row.block_count;
  }
}

void stage_driver::add_row(step& s, running& r, size_t tokens) {
  if (!r.introduced) {
    sequence_start start;
    start.sequence = r.id;
    start.prompt_length = static_cast<uint32_t>(r.wanted->prompt.size());
    start.history = r.history;
    start.sampling = r.wanted->sampling;
    start.rope_base = r.wanted->rope_base;
    s.starts.push_back(std::move(start));
    r.introduced = true;
  }
  step_row row;
  row.sequence = r.id;
  row.position = static_cast<uint32_t>(r.fed);
  row.first_token = static_cast<uint32_t>(s.tokens.size());
  row.token_count = static_cast<uint32_t>(tokens);
  row.wants.prompt_logprobs = r.wanted->prompt_logprobs && r.into->tokens.empty();
  row.wants.top_n = r.wanted->top_n;
  const bool last = r.fed + tokens == r.history.size();
  row.wants.sample = last && r.wanted->new_tokens > 0;
  row.wants.hidden_state = last && r.wanted->hidden_state;
  give_blocks(s, row, r);
  s.tokens.insert(s.tokens.end(), r.history.begin() + static_cast<ptrdiff_t>(r.fed),
                  r.history.begin() + static_cast<ptrdiff_t>(r.fed + tokens));
  s.rows.push_back(row);
}

void stage_driver::preempt(std::vector<running>& all) {
  for (auto& r : all) {
    if (r.finished() || r.preemptions == 2)
      continue;
    ++r.preemptions;
    free_blocks_.insert(free_blocks_.begin(), r.blocks.begin(), r.blocks.end());
    r.blocks.clear();
    r.fed = 0;
    r.introduced = false;
    if (r.into->tokens.empty()) {
      r.into->prompt.clear();
      r.into->prompt_top.clear();
    }
  }
}

std::vector<generated> stage_driver::run(const std::vector<generation>& all, const manner& how) {
  std::vector<generated> results(all.size());
  std::vector<running> sequences(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    sequences[i].wanted = &all[i];
    sequences[i].into = &results[i];
    sequences[i].id = sequence_id{next_id_++};
    sequences[i].history = all[i].prompt;
  }
  std::vector<sequence_id> dropped;
  for (uint32_t count = 1;; ++count) {
    if (how.shuffle_blocks)
      std::shuffle(free_blocks_.begin(), free_blocks_.end(), std::mt19937{count});
    step s;
    s.id = step_id{next_step_++};
    s.dropped = std::exchange(dropped, {});
    std::vector<running*> in_step;
    size_t budget = how.step_tokens;
    for (auto& r : sequences) {
      const bool prompt_only = r.wanted->new_tokens == 0 && r.fed < r.history.size();
      if (r.done || (r.finished() && !prompt_only))
        continue;
      const size_t tokens = std::min<size_t>({r.history.size() - r.fed, how.chunk, budget});
      if (tokens == 0)
        continue;
      budget -= tokens;
      add_row(s, r, tokens);
      in_step.push_back(&r);
    }
    if (in_step.empty())
      break;
    auto answer = forward(s);
    if (!answer)
      throw std::runtime_error(text_of(answer.error()));
    for (size_t i = 0; i < in_step.size(); ++i) {
      auto& r = *in_step[i];
      auto& row = answer->rows.at(i);
      r.fed += s.rows[i].token_count;
      if (row.fault != ec::none) {
        r.into->fault = row.fault_text;
        r.done = true;
      }
      std::move(row.prompt.begin(), row.prompt.end(), std::back_inserter(r.into->prompt));
      std::move(row.prompt_top.begin(), row.prompt_top.end(),
                std::back_inserter(r.into->prompt_top));
      if (!row.hidden.empty())
        r.into->hidden = std::move(row.hidden);
      if (row.token >= 0) {
        r.into->tokens.push_back(row.token);
        r.into->logprobs.push_back(row.logprob);
        r.history.push_back(row.token);
      }
      if (r.done || (r.finished() && r.fed + 1 >= r.history.size()))
        r.done = r.done || r.wanted->new_tokens > 0 || r.fed == r.history.size();
      if (r.done) {
        free_blocks_.insert(free_blocks_.end(), r.blocks.begin(), r.blocks.end());
        r.blocks.clear();
        dropped.push_back(r.id);
      }
    }
    if (how.preempt_every > 0 && count % how.preempt_every == 0)
      preempt(sequences);
  }
  step farewell;
  farewell.id = step_id{next_step_++};
  farewell.dropped = dropped;
  if (auto answer = forward(farewell); !answer)
    throw std::runtime_error(text_of(answer.error()));
  return results;
}

} // namespace troupe::test
