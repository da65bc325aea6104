#include <catch2/catch.hpp>

#include <cmath>
#include <string>

#include <simdjson.h>

#include "fixtures.hpp"

using namespace troupe;
using namespace troupe::models;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

/// Compares whole chains of processors with what transformers made of them
/// (tests/golden/sampling/make_goldens.py).
namespace {

struct goldens {
  simdjson::dom::parser parser;
  element root;
  goldens() { root = parser.load(TROUPE_GOLDEN_DIR "/sampling/chains.json"); }
};

float number(element value) {
  return static_cast<float>(double{value});
}

std::vector<int32_t> ids(element list) {
  std::vector<int32_t> result;
  for (const auto id : array{list})
    result.push_back(static_cast<int32_t>(int64_t{id}));
  return result;
}

void set(sampling_params& p, std::string_view name, element value) {
  if (name == "temperature")
    p.temperature = number(value);
  else if (name == "top_k")
    p.top_k = static_cast<int32_t>(int64_t{value});
  else if (name == "top_p")
    p.top_p = number(value);
  else if (name == "min_p")
    p.min_p = number(value);
  else if (name == "typical_p")
    p.typical_p = number(value);
  else if (name == "epsilon_cutoff")
    p.epsilon_cutoff = number(value);
  else if (name == "eta_cutoff")
    p.eta_cutoff = number(value);
  else if (name == "repetition_penalty")
    p.repetition_penalty = number(value);
  else if (name == "encoder_repetition_penalty")
    p.encoder_repetition_penalty = number(value);
  else if (name == "_frequency_penalty")
    p.frequency_penalty = number(value);
  else if (name == "_presence_penalty")
    p.presence_penalty = number(value);
  else if (name == "no_repeat_ngram_size")
    p.no_repeat_ngram_size = static_cast<uint32_t>(int64_t{value});
  else if (name == "min_length")
    p.min_length = static_cast<uint32_t>(int64_t{value});
  else if (name == "min_new_tokens")
    p.min_new_tokens = static_cast<uint32_t>(int64_t{value});
  else if (name == "suppress_tokens")
    p.suppress_tokens = ids(value);
  else if (name == "begin_suppress_tokens")
    p.begin_suppress_tokens = ids(value);
  else if (name == "encoder_no_repeat_ngram_size")
    p.encoder_no_repeat_ngram_size = static_cast<uint32_t>(int64_t{value});
  else if (name == "forced_bos_token_id")
    p.forced_bos_token = static_cast<int32_t>(int64_t{value});
  else if (name == "forced_eos_token_id")
    p.forced_eos_tokens =
        value.is_array() ? ids(value) : std::vector{static_cast<int32_t>(int64_t{value})};
  else if (name == "max_length")
    p.max_length = static_cast<uint32_t>(int64_t{value});
  else if (name == "exponential_decay_length_penalty") {
    p.decay_start = static_cast<uint32_t>(int64_t{value.at(0)});
    p.decay_factor = number(value.at(1));
  } else if (name == "_prompt" || name == "_history")
    return; // Not a parameter: what the sequence holds, read below.
  else if (name == "bad_words_ids") {
    for (const auto word : array{value})
      p.bad_words.push_back(ids(word));
  } else if (name == "_logit_bias") {
    for (const auto [token, bias] : object{value})
      p.logit_bias.push_back({std::stoi(std::string{token}), number(bias)});
  } else {
    FAIL("unknown parameter " << name);
  }
}

sampling_params parameters_of(element entry, const std::vector<int32_t>& eos) {
  sampling_params p;
  p.sample = true;
  p.eos_tokens = eos;
  for (const auto [name, value] : object{entry["parameters"]})
    set(p, name, value);
  return p;
}

std::vector<token_value> pairs(element list) {
  std::vector<token_value> result;
  for (const auto pair : array{list})
    result.push_back({static_cast<int32_t>(int64_t{pair.at(0)}), number(pair.at(1))});
  return result;
}

/// The same tokens, and numbers that differ by rounding only.
bool agree(const std::vector<token_value>& got, const std::vector<token_value>& expected,
           double relative, double absolute) {
  if (got.size() != expected.size())
    return false;
  for (size_t i = 0; i < got.size(); ++i)
    if (got[i].token != expected[i].token || std::abs(got[i].value - expected[i].value) >
                                                 absolute + relative * std::abs(expected[i].value))
      return false;
  return true;
}

/// Probabilities below this may underflow here and not there.
std::vector<token_value> not_tiny(std::vector<token_value> list) {
  std::erase_if(list, [](const token_value& t) { return t.value < 1e-30f; });
  return list;
}

std::vector<float> large_row(uint32_t salt) {
  std::vector<float> row(49152);
  for (uint32_t i = 0; i < row.size(); ++i) {
    const double u = (i * 2654435761u + salt) / 4294967296.0;
    row[i] = static_cast<float>(30 * (u * u) * (u * u) * (u * u) - 6);
  }
  return row;
}

} // namespace

TEST_CASE("chains of processors end in transformers' probabilities", "[models][sampling]") {
  goldens golden;
  const auto eos = ids(golden.root["eos"]);
  std::vector<std::vector<float>> rows;
  for (const auto row : array{golden.root["rows"]}) {
    auto& values = rows.emplace_back();
    for (const auto value : array{row})
      values.push_back(number(value));
  }
  size_t cases = 0;
  for (const auto entry : array{golden.root["cases"]}) {
    ++cases;
    // Some cases have a prompt and an answer of their own.
    const auto own = [&](const char* name, const char* common) {
      element found;
      return entry["parameters"][name].get(found) == simdjson::SUCCESS ? ids(found)
                                                                       : ids(golden.root[common]);
    };
    auto start = test::start_of(parameters_of(entry, eos), own("_prompt", "prompt"));
    for (const auto token : own("_history", "answer"))
      start.history.push_back(token);
    const auto position = static_cast<uint32_t>(start.history.size());
    const auto& row = rows[static_cast<size_t>(int64_t{entry["row"]})];
    CAPTURE(int64_t{entry["row"]}, simdjson::minify(entry["parameters"]));

    const auto drawn_from = next_token_distribution(row, sequence_sampler{start}, position);
    REQUIRE(drawn_from);
    CHECK(agree(not_tiny(*drawn_from), not_tiny(pairs(entry["probabilities"])), 2e-5, 1e-8));

    start.sampling.sample = false;
    const auto greedy = sample_row(row, sequence_sampler{start}, test::wants_token(), position);
    CHECK(greedy.token == int64_t{entry["greedy"]});

    row_wants beams;
    beams.candidates = 5;
    const auto several = sample_row(row, sequence_sampler{start}, beams, position);
    CHECK(several.token == -1);
    CHECK(agree(several.candidates, pairs(entry["beams"]), 1e-5, 1e-5));
  }
  CHECK(cases >= 300);
}

TEST_CASE("chains over a whole vocabulary keep the tokens that transformers keeps",
          "[models][sampling]") {
  goldens golden;
  for (const auto entry : array{golden.root["large"]}) {
    const auto row = large_row(static_cast<uint32_t>(int64_t{entry["salt"]}));
    CAPTURE(int64_t{entry["salt"]}, simdjson::minify(entry["parameters"]));
    const auto kept =
        next_token_distribution(row, sequence_sampler{test::start_of(parameters_of(entry, {}))}, 3);
    REQUIRE(kept);
    CHECK(kept->size() == static_cast<size_t>(int64_t{entry["kept"]}));
    CHECK(kept->back().token == int64_t{entry["highest_kept"]});
    int64_t sum = 0;
    for (const auto& t : *kept)
      sum += t.token;
    CHECK(sum == int64_t{entry["sum_of_ids"]});
    const auto first = pairs(entry["first"]);
    CHECK(agree({kept->begin(), kept->begin() + static_cast<ptrdiff_t>(first.size())}, first, 2e-5,
                0));
  }
}
