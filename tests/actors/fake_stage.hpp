#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "troupe/models/stage.hpp"

/// A model without arithmetic whose every token depends on all KV contents before it, stored by
/// block: a block that is wrong, shared wrongly, overwritten or missing changes what it says.
namespace troupe::test {

inline uint64_t stir(uint64_t h, uint64_t x) {
  h ^= x + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
  h *= 0xff51afd7ed558ccdu;
  return h ^ (h >> 33);
}

inline constexpr uint32_t fake_vocabulary = 997;

/// What layer `layer` makes of a position: its own input, and what every earlier position stored.
inline uint64_t fake_key(uint32_t layer, uint64_t input, uint32_t position) {
  return stir(stir(layer + 1, input), position);
}

inline int32_t fake_token(uint64_t state, const sampling_params& p, uint32_t position) {
  if (p.sample)
    state = stir(stir(stir(state, p.seed), p.sequence_index), position);
  return static_cast<int32_t>(state % fake_vocabulary);
}

inline float fake_logprob(uint64_t state, int32_t token) {
  return -static_cast<float>(stir(state, static_cast<uint64_t>(token)) % 4096) / 256.0f;
}

/// The best continuations, which depend on everything that stands before.
inline void fake_candidates(uint64_t state, uint16_t count, row_result& into) {
  const auto first = state % fake_vocabulary;
  const auto stride = 1 + state / fake_vocabulary % 7;
  for (uint16_t i = 0; i < count; ++i) {
    const auto token = static_cast<int32_t>((first + i * stride) % fake_vocabulary);
    const auto noise = static_cast<float>(stir(state, i) % 64) / 256.0f;
    into.candidates.push_back({token, -0.25f * static_cast<float>(i) - noise});
    into.candidate_logprobs.push_back(fake_logprob(state, token));
  }
}

inline std::vector<float> fake_hidden(uint64_t state) {
  return {static_cast<float>(state % 17) + 1, static_cast<float>(state / 17 % 13),
          static_cast<float>(state / 221 % 11) - 5};
}

/// What the last layer makes of the last of `tokens`.
inline uint64_t fake_state(const std::vector<int32_t>& tokens, uint32_t layers,
                           double rope_base = 0) {
  std::vector<std::vector<uint64_t>> keys(layers);
  uint64_t x = 0;
  for (uint32_t p = 0; p < tokens.size(); ++p) {
    x = static_cast<uint64_t>(static_cast<uint32_t>(tokens[p]));
    for (uint32_t layer = 0; layer < layers; ++layer) {
      keys[layer].push_back(fake_key(layer, x, p));
      x = stir(7, static_cast<uint64_t>(rope_base));
      for (auto k : keys[layer])
        x = stir(x, k);
    }
  }
  return x;
}

/// What the fake model would say, computed without blocks, steps or shards.
struct fake_reference {
  std::vector<int32_t> generated;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;
};

inline fake_reference fake_generate(std::vector<int32_t> tokens, uint32_t count, uint32_t layers,
                                    const sampling_params& sampling = {}, double rope_base = 0) {
  fake_reference result;
  const auto prompt = tokens.size();
  std::vector<std::vector<uint64_t>> keys(layers);
  for (uint32_t p = 0; result.generated.size() < count; ++p) {
    auto x = static_cast<uint64_t>(static_cast<uint32_t>(tokens[p]));
    for (uint32_t layer = 0; layer < layers; ++layer) {
      keys[layer].push_back(fake_key(layer, x, p));
      x = stir(7, static_cast<uint64_t>(rope_base));
      for (auto k : keys[layer])
        x = stir(x, k);
    }
    if (p + 1 < prompt) {
      result.prompt_logprobs.push_back(fake_logprob(x, tokens[p + 1]));
      continue;
    }
    auto t = fake_token(x, sampling, p);
    result.generated.push_back(t);
    result.logprobs.push_back(fake_logprob(x, t));
    tokens.push_back(t);
  }
  return result;
}

/// Provokes failures from within `forward`: return an error or throw. Called before the
/// bookkeeping if `early`, else in the middle of the rows.
using fake_trouble = std::function<caf::error(const step&, bool early)>;

struct fake_stage_options {
  uint32_t layer = 0;
  uint32_t layers = 1; ///< One per stage.
  uint32_t blocks = 64;
  uint32_t block_tokens = 4;
  uint32_t max_step_tokens = 0; ///< Refuses more; 0 = any.
  fake_trouble trouble;
  std::function<void(const step&)> before;                 ///< At the start of `forward`.
  std::function<caf::expected<bool>()> idle_work;          ///< Set: there is some.
  std::function<std::string(const step_row&)> row_trouble; ///< Last stage: text = that row's fault.
};

class fake_stage final : public models::stage {
public:
  explicit fake_stage(fake_stage_options options)
      : options_(std::move(options)), pages_(size_t{options_.blocks} * options_.block_tokens, 0) {}

  caf::expected<models::stage_output> forward(const step& s,
                                              const models::activation& input) override {
    if (options_.before)
      options_.before(s);
    if (auto err = ask_for_trouble(s, true))
      return err;
    note(s);
    auto output = compute(s, input);
    if (!output)
      spoil(s);
    return output;
  }

  void skip(const step& s) override { note(s); }

  bool has_idle_work() const override { return options_.idle_work != nullptr; }
  caf::expected<bool> idle_work() override { return options_.idle_work(); }

  uint64_t weight_bytes() const override { return 0; }
  uint64_t kv_bytes() const override { return pages_.size() * 8; }

private:
  struct known_sequence {
    std::vector<block_id> table;
    sequence_start start;
    uint32_t draws_at = 0;         ///< Place of the token that its last row drew ...
    int32_t drawn = pending_token; ///< ... and the token.
  };

  /// After a fault nothing may be read of what the step wrote.
  void spoil(const step& s) {
    for (const auto& row : s.rows)
      if (auto known = sequences_.find(row.sequence); known != sequences_.end())
        for (uint32_t j = 0; j < row.token_count; ++j)
          if ((row.position + j) / options_.block_tokens < known->second.table.size())
            page(known->second, row.position + j) = 0xdeadbeef;
  }

  caf::expected<models::stage_output> compute(const step& s, const models::activation& input) {
    if (options_.max_step_tokens > 0 && s.tokens.size() > options_.max_step_tokens)
      return caf::make_error(ec::step_fault, std::string{"more tokens than scratch"});
    if (options_.layer > 0 && input.rows() != static_cast<int64_t>(s.tokens.size()))
      return caf::make_error(ec::step_fault, std::string{"an activation of another step"});
    models::stage_output output;
    std::vector<uint64_t> passed(s.tokens.size());
    bool last = options_.layer + 1 == options_.layers;
    for (size_t i = 0; i < s.rows.size(); ++i) {
      if (i == s.rows.size() / 2)
        if (auto err = ask_for_trouble(s, false))
          return err;
      const auto& row = s.rows[i];
      auto known = sequences_.find(row.sequence);
      if (known == sequences_.end())
        return caf::make_error(ec::step_fault, std::string{"a row of an unknown sequence"});
      auto& seq = known->second;
      if (row.position + row.token_count > seq.table.size() * options_.block_tokens)
        return caf::make_error(ec::step_fault, std::string{"a position without a block"});
      row_result result;
      result.sequence = row.sequence;
      if (s.tokens[row.first_token] == pending_token &&
          (options_.layers > 1 || seq.draws_at != row.position || seq.drawn == pending_token))
        return caf::make_error(ec::step_fault, std::string{"a token that was never drawn"});
      for (uint32_t j = 0; j < row.token_count; ++j) {
        auto x = run_position(s, row, j, seq, input, passed);
        if (last)
          answer(s, row, j, seq, x, result);
      }
      if (last) {
        auto text = options_.row_trouble ? options_.row_trouble(row) : std::string{};
        if (!text.empty()) {
          result = row_result{};
          result.sequence = row.sequence;
          result.fault = ec::row_fault;
          result.fault_text = text;
        }
        seq.draws_at = row.wants.sample ? row.position + row.token_count : 0;
        seq.drawn = result.token;
        output.result.rows.push_back(std::move(result));
      }
    }
    if (!last) {
      std::vector<std::byte> raw(passed.size() * 8);
      std::memcpy(raw.data(), passed.data(), raw.size());
      output.passed = models::activation::from_bytes(
          models::dtype::int64, static_cast<int64_t>(passed.size()), 1, std::move(raw));
    }
    return output;
  }

  caf::error ask_for_trouble(const step& s, bool early) {
    return options_.trouble ? options_.trouble(s, early) : caf::error{};
  }

  void copy_blocks(const step& s) {
    const auto size = static_cast<ptrdiff_t>(options_.block_tokens);
    for (const auto& copy : s.copies)
      std::copy_n(pages_.begin() + static_cast<ptrdiff_t>(copy.from) * size, size,
                  pages_.begin() + static_cast<ptrdiff_t>(copy.to) * size);
  }

  void note(const step& s) {
    for (auto id : s.dropped)
      sequences_.erase(id);
    for (const auto& move : s.swaps_out)
      host_[move.host].assign(block(move.device), block(move.device) + options_.block_tokens);
    for (const auto& move : s.swaps_in) {
      std::copy_n(host_.at(move.host).begin(), options_.block_tokens, block(move.device));
      host_.erase(move.host);
    }
    copy_blocks(s);
    for (const auto& start : s.starts)
      sequences_[start.sequence] = {{}, start, 0, pending_token};
    for (const auto& row : s.rows) {
      auto known = sequences_.find(row.sequence);
      if (known == sequences_.end())
        continue;
      auto& table = known->second.table;
      table.insert(table.end(), s.blocks.begin() + row.first_block,
                   s.blocks.begin() + row.first_block + row.block_count);
    }
  }

  uint64_t* block(block_id id) {
    return pages_.data() + static_cast<size_t>(id) * options_.block_tokens;
  }

  uint64_t& page(const known_sequence& seq, uint32_t position) {
    auto block = static_cast<size_t>(seq.table.at(position / options_.block_tokens));
    return pages_.at(block * options_.block_tokens + position % options_.block_tokens);
  }

  uint64_t run_position(const step& s, const step_row& row, uint32_t j, const known_sequence& seq,
                        const models::activation& input, std::vector<uint64_t>& passed) {
    auto position = row.position + j;
    auto at = row.first_token + j;
    uint64_t x = static_cast<uint32_t>(s.tokens[at] == pending_token ? seq.drawn : s.tokens[at]);
    if (options_.layer > 0)
      std::memcpy(&x, input.data()->host_bytes() + size_t{at} * 8, 8);
    page(seq, position) = fake_key(options_.layer, x, position);
    x = stir(7, static_cast<uint64_t>(seq.start.rope_base));
    for (uint32_t p = 0; p <= position; ++p)
      x = stir(x, page(seq, p));
    passed[at] = x;
    return x;
  }

  void answer(const step&, const step_row& row, uint32_t j, const known_sequence& seq, uint64_t x,
              row_result& result) {
    auto position = row.position + j;
    if (row.wants.prompt_logprobs && position + 1 < seq.start.prompt_length) {
      auto t = seq.start.history[position + 1];
      result.prompt.push_back({t, fake_logprob(x, t)});
    }
    const bool end = j + 1 == row.token_count;
    if (row.wants.hidden_state && (end || row.wants.all_hidden))
      for (auto part : fake_hidden(x))
        result.hidden.push_back(part);
    if (row.wants.candidates > 0 && end)
      fake_candidates(x, row.wants.candidates, result);
    else if (row.wants.sample && end) {
      result.token = fake_token(x, seq.start.sampling, position);
      result.logprob = fake_logprob(x, result.token);
    }
  }

  fake_stage_options options_;
  std::vector<uint64_t> pages_;
  std::map<block_id, std::vector<uint64_t>> host_;
  std::map<sequence_id, known_sequence> sequences_;
};

} // namespace troupe::test
