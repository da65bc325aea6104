#pragma once

#include <vector>

#include "../fake_stage.hpp"
#include "troupe/actors/scheduling/search.hpp"

namespace troupe::test {

/// What a search on the fake model comes to, without blocks, steps or shards.
struct fake_found {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<sequence_output> outputs;
  std::optional<sequence_end> end;
};

inline fake_found fake_search(const new_sequence& s, uint32_t layers) {
  fake_found found;
  auto how = scheduling::make_search(s);
  std::vector<std::vector<int32_t>> lanes{s.prompt};
  if (how->wants_prompt_hidden())
    for (uint32_t p = 0; p < s.prompt.size(); ++p)
      how->take_hidden(p, 1,
                       fake_hidden(fake_state({s.prompt.begin(), s.prompt.begin() + p + 1}, layers,
                                              s.rope_base)));
  while (!found.end) {
    std::vector<row_result> rows;
    for (const auto& lane : lanes) {
      const auto state = fake_state(lane, layers, s.rope_base);
      auto& row = rows.emplace_back();
      row.hidden = fake_hidden(state);
      fake_candidates(state, how->wants().candidates, row);
    }
    auto move = how->advance(rows);
    if (move.token) {
      found.tokens.push_back(move.token->token);
      found.logprobs.push_back(move.token->logprob);
    }
    found.end = move.end;
    std::vector<std::vector<int32_t>> next;
    for (const auto& lane : move.lanes) {
      next.push_back(lanes[lane.parent]);
      next.back().push_back(lane.token);
    }
    lanes = std::move(next);
  }
  found.outputs = how->outputs();
  return found;
}

inline std::vector<int32_t> tokens_of(const sequence_output& output) {
  std::vector<int32_t> tokens;
  for (const auto& token : output.tokens)
    tokens.push_back(token.token);
  return tokens;
}

} // namespace troupe::test
