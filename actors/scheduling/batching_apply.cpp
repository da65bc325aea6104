#include <algorithm>
#include <string>

#include "troupe/actors/scheduling/batching_entry.hpp"

/// What a step's end means for its sequences.
namespace troupe::scheduling {

std::deque<batching::flight>::iterator batching::find_flight(step_id id) {
  return std::find_if(flights_.begin(), flights_.end(),
                      [&](const flight& f) { return f.id == id; });
}

void batching::apply(step_result& result, std::vector<sequence_event>& events) {
  buried_.clear();
  auto place_of_flight = find_flight(result.id);
  if (place_of_flight == flights_.end())
    return;
  const auto& rows = place_of_flight->rows;
  bool matches = rows.size() == result.rows.size();
  for (size_t i = 0; matches && i < rows.size(); ++i)
    matches = rows[i].who->id == result.rows[i].sequence;
  if (!matches) {
    auto reason = caf::make_error(
        ec::internal, std::string{"a step's result names other rows than the step did"});
    return fail(result.id, reason, events);
  }
  auto done = std::move(*place_of_flight);
  flights_.erase(place_of_flight);
  moves_landed(done);
  // Moves take time that is nobody's row's.
  if (!done.retry && done.moved_out.empty() && done.moved_in.empty())
    share_.learn(done.decode_rows, done.prompt_tokens, result.compute_ns);
  for (size_t i = 0; i < done.rows.size(); ++i)
    take_row(done.rows[i], result.rows[i], events);
  done.rows.clear();
  done.dropped.clear();
  done.moved_out.clear();
  done.moved_in.clear();
  done.decode_rows = done.prompt_tokens = 0;
  spare_.push_back(std::move(done));
}

void batching::take_row(const flight_row& row, row_result& result,
                        std::vector<sequence_event>& events) {
  auto& e = *row.who;
  --e.in_flight;
  e.drawing -= row.sampled && !row.discard;
  if (e.ended || row.discard) {
    counts_.surplus_tokens += e.ended && row.sampled;
    return settle(e);
  }
  e.retry_group = 0;
  e.unconfirmed = false;
  if (result.fault != ec::none) {
    fault(e, caf::make_error(result.fault, std::move(result.fault_text)), events);
    return settle(e);
  }
  if (row.sampled && result.token < 0 && !e.group) {
    fault(e,
          caf::make_error(ec::internal,
                          std::string{"the model drew no token for a row that wanted one"}),
          events);
    return settle(e);
  }
  e.done = row.position + row.count;
  drop_copy(e);
  if (limits_.prefix_cache)
    publish(e);
  if (e.spec.wants.prompt_logprobs)
    collect_prompt(e, row, result);
  if (e.group) {
    take_lane(e, row, result, events);
    // A lane that nobody continues is gone by now.
    if (find(e.id) == &e)
      settle(e);
    return;
  }
  if (!row.sampled)
    return settle(e);

  e.tokens.push_back(result.token);
  e.decoding = true;
  auto& event = events.emplace_back();
  event.sequence = e.id;
  event.index = e.index;
  event.has_token = true;
  event.first = e.generated() == e.spec.generated + 1;
  event.row = std::move(result);
  if (event.first) {
    event.cached_tokens = e.cached;
    event.row.prompt = std::move(e.prompt_scores);
    event.row.prompt_top = std::move(e.prompt_tops);
  }
  const auto& stops = e.spec.stop_tokens;
  if (std::find(stops.begin(), stops.end(), e.tokens.back()) != stops.end())
    event.end = sequence_end::stop_token;
  else if (e.generated() >= e.spec.max_new_tokens)
    event.end = sequence_end::length;
  if (event.end)
    end(e);
  settle(e);
}

/// A chunk that is computed a second time brings values that are known already.
void batching::collect_prompt(entry& e, const flight_row& row, row_result& result) {
  const auto last = std::min(row.position + row.count, e.prompt_length - 1);
  if (last > e.scored && row.position <= e.scored) {
    auto known = e.scored - row.position;
    for (size_t i = known; i < result.prompt.size(); ++i)
      e.prompt_scores.push_back(result.prompt[i]);
    for (size_t i = known; i < result.prompt_top.size(); ++i)
      e.prompt_tops.push_back(std::move(result.prompt_top[i]));
    e.scored = last;
  }
  result.prompt.clear();
  result.prompt_top.clear();
}

/// The blocks that are full now can be found by others: their KV is computed and the host knows
/// their tokens.
void batching::publish(entry& e) {
  const auto size = limits_.block_tokens;
  for (; (e.published + 1) * size <= e.done; ++e.published) {
    std::span<const int32_t> tokens{e.tokens.data() + size_t{e.published} * size, size};
    e.chain = ledger_.publish(e.chain, e.table[e.published], tokens, scope_of(e));
  }
}

void batching::fault(entry& e, caf::error reason, std::vector<sequence_event>& events) {
  ++counts_.row_faults;
  auto& event = events.emplace_back();
  event.sequence = e.head().id;
  event.index = e.head().index;
  event.fault = std::move(reason);
  end(e);
}

void batching::fail(step_id id, const caf::error& reason, std::vector<sequence_event>& events) {
  buried_.clear();
  auto place_of_flight = find_flight(id);
  if (place_of_flight == flights_.end())
    return;
  ++counts_.step_faults;
  auto failed = std::move(*place_of_flight);
  auto later = flights_.erase(place_of_flight);
  dropped_.insert(dropped_.end(), failed.dropped.begin(), failed.dropped.end());

  std::vector<entry*> suspects;
  for (const auto& row : failed.rows) {
    auto& e = *row.who;
    --e.in_flight;
    e.drawing -= row.sampled && !row.discard;
    if (e.ended || row.discard)
      continue;
    if (std::find(failed.moved_in.begin(), failed.moved_in.end(), e.id) == failed.moved_in.end())
      suspects.push_back(&e);
    // The shards may or may not have taken note of the row: they are told everything again.
    e.introduced = false;
    e.scheduled = row.position;
    e.retry_count = row.count;
    for (auto f = later; f != flights_.end(); ++f)
      for (auto& r : f->rows)
        if (r.who == &e && !r.discard) {
          r.discard = true;
          e.drawing -= r.sampled;
        }
  }

  moves_failed(failed);
  if (suspects.size() == 1 && failed.retry) {
    fault(*suspects.front(), reason, events);
  } else {
    const auto half = (suspects.size() + 1) / 2;
    for (size_t from = 0; from < suspects.size(); from += half) {
      auto& group = retries_.emplace_back();
      group.id = ++last_group_;
      for (auto i = from; i < std::min(from + half, suspects.size()); ++i) {
        suspects[i]->retry_group = group.id;
        group.members.push_back(suspects[i]->id);
      }
    }
  }
  for (const auto& row : failed.rows)
    if (find(row.who->id) == row.who)
      settle(*row.who);
}

} // namespace troupe::scheduling
