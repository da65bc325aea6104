#include "rig.hpp"

#include <simdjson.h>

using namespace troupe;
using simdjson::dom::array;
using simdjson::dom::element;
using test::rig;
using test::tokens_of;

/// Beam search and contrastive search on the tiny models, token for token what transformers finds
/// (tests/golden/make_decoding_goldens.py, make_stop_goldens.py,
/// make_group_goldens.py).
namespace {

struct goldens {
  simdjson::dom::parser parser;
  element root;
  explicit goldens(const std::string& file) {
    root = parser.load(std::string{TROUPE_GOLDEN_DIR} + '/' + file);
  }
};

std::vector<int32_t> ids(element list) {
  std::vector<int32_t> result;
  for (const auto id : array{list})
    result.push_back(static_cast<int32_t>(int64_t{id}));
  return result;
}

uint32_t count(element number) {
  return static_cast<uint32_t>(int64_t{number});
}

/// The policy on the stages of a tiny model.
rig serve(const std::string& name, uint32_t shards, uint32_t blocks, uint32_t block_tokens) {
  models::load_options options;
  options.folder = std::string{TROUPE_GOLDEN_DIR} + "/models/" + name;
  options.shards = shards;
  options.cpu_threads = 1;
  options.max_model_len = 256;
  options.kv_block_tokens = block_tokens;
  options.max_step_tokens = 64;
  options.kv_cache_bytes = 8 << 20;
#ifdef TROUPE_EMULATED_LIBRARY
  ::setenv("TROUPE_CUDA_LIBRARY", TROUPE_EMULATED_LIBRARY, 0);
  options.devices = "*";
  options.dtype = "fp32";
#endif
  auto plan = models::plan_model(options);
  REQUIRE(plan);
  REQUIRE(plan->kv_blocks >= blocks);
  std::vector<std::unique_ptr<models::stage>> stages;
  for (auto& make : plan->stages) {
    auto stage = make([](uint64_t, uint64_t) {});
    REQUIRE(stage);
    stages.push_back(std::move(*stage));
  }
  scheduling::batching_limits limits;
  limits.max_step_tokens = 64;
  limits.max_sequences = 24;
  limits.blocks = blocks;
  limits.block_tokens = block_tokens;
  return {limits, std::move(stages)};
}

new_sequence request_of(element entry) {
  auto s = rig::make(ids(entry["prompt"]), count(entry["max_new_tokens"]));
  s.stop_tokens = ids(entry["eos"]);
  auto& p = s.sampling;
  p.eos_tokens = s.stop_tokens;
  for (const auto [name, content] : simdjson::dom::object{entry["processors"]}) {
    if (name == "repetition_penalty")
      p.repetition_penalty = static_cast<float>(double{content});
    else if (name == "no_repeat_ngram_size")
      p.no_repeat_ngram_size = count(content);
    else if (name == "min_new_tokens")
      p.min_new_tokens = count(content);
    else
      FAIL("unknown processor " << name);
  }
  return s;
}

new_sequence beams_of(element entry) {
  auto s = request_of(entry);
  s.search.kind = search_kind::beams;
  s.search.lanes = s.search.returned = count(entry["num_beams"]);
  s.search.length_penalty = double{entry["length_penalty"]};
  const element stopping = entry["early_stopping"];
  if (stopping.is_string())
    s.search.stopping = early_stopping::never;
  else if (bool{stopping})
    s.search.stopping = early_stopping::yes;
  return s;
}

new_sequence grouped_beams_of(element entry) {
  auto s = beams_of(entry);
  s.search.groups = count(entry["num_beam_groups"]);
  s.search.diversity_penalty = static_cast<float>(double{entry["diversity_penalty"]});
  return s;
}

new_sequence contrastive_of(element entry) {
  auto s = request_of(entry);
  s.search.kind = search_kind::contrastive;
  s.search.lanes = count(entry["top_k"]);
  s.search.penalty_alpha = static_cast<float>(double{entry["penalty_alpha"]});
  return s;
}

/// Ends with one of some sequences of tokens.
class token_text final : public watched_text {
public:
  explicit token_text(std::vector<std::vector<int32_t>> stops) : stops_(std::move(stops)) {}
  watched_text_ptr after(int32_t token) const override {
    auto longer = std::make_shared<token_text>(*this);
    longer->tokens_.push_back(token);
    return longer;
  }
  bool stopped() const override {
    return std::any_of(stops_.begin(), stops_.end(), [&](const auto& stop) {
      return stop.size() <= tokens_.size() &&
             std::equal(stop.rbegin(), stop.rend(), tokens_.rbegin());
    });
  }

private:
  std::vector<std::vector<int32_t>> stops_;
  std::vector<int32_t> tokens_;
};

new_sequence stopped_beams_of(element entry) {
  auto s = rig::make(ids(entry["prompt"]), count(entry["max_new_tokens"]));
  s.stop_tokens = s.sampling.eos_tokens = ids(entry["eos"]);
  s.search.kind = search_kind::beams;
  s.search.lanes = s.search.returned = count(entry["num_beams"]);
  s.search.length_penalty = double{entry["length_penalty"]};
  s.search.stopping = early_stopping::yes;
  std::vector<std::vector<int32_t>> stops;
  for (const auto stop : array{entry["stops"]})
    stops.push_back(ids(stop));
  auto watch = std::make_shared<search_watch>();
  watch->text = std::make_shared<token_text>(std::move(stops));
  s.watch.shared = std::move(watch);
  return s;
}

/// transformers finishes a beam with the first of the end tokens, whichever it was.
std::vector<int32_t> with_first_end(std::vector<int32_t> tokens, const std::vector<int32_t>& ends) {
  if (std::find(ends.begin(), ends.end(), tokens.back()) != ends.end())
    tokens.back() = ends.front();
  return tokens;
}

/// `ends`: the end tokens, of which transformers writes the first, whichever was drawn.
void check_beams(const rig::record& got, element entry, const std::vector<int32_t>& ends) {
  CAPTURE(simdjson::minify(entry));
  CHECK(!got.fault);
  const array sequences = entry["sequences"];
  const array scores = entry["scores"];
  REQUIRE(got.outputs.size() == sequences.size());
  for (size_t i = 0; i < got.outputs.size(); ++i) {
    CHECK(with_first_end(tokens_of(got.outputs[i]), ends) == ids(sequences.at(i)));
    CHECK(got.outputs[i].score == Approx(double{scores.at(i)}).margin(2e-4));
  }
}

void expect_beams(const rig::record& got, element entry) {
  check_beams(got, entry, got.spec.stop_tokens);
}

void expect_stopped_beams(const rig::record& got, element entry) {
  check_beams(got, entry, {});
}

/// All cases of one model together: once with room for all, once on a small cache that is lost
/// again and again.
template <class Make, class Expect>
void check_model(const std::string& kind, const std::string& model, uint32_t shards,
                 uint32_t blocks, Make make, Expect expect,
                 const std::string& file = "decoding.json") {
  goldens golden{file};
  auto r = serve(model, shards, blocks, 8);
  std::vector<std::pair<sequence_id, element>> asked;
  for (const auto entry : array{golden.root[kind]})
    if (std::string_view{entry["model"]} == model)
      asked.emplace_back(r.submit(make(entry)), entry);
  REQUIRE(asked.size() >= 10);
  // Now and then all KV is lost in the middle of things.
  const int loses_every = blocks < 100 ? 11 : 0;
  for (int steps = 1; r.launch() || r.land(); ++steps)
    if (loses_every > 0 && steps % loses_every == 0 && steps < 200)
      r.forget();
  CHECK((r.policy.counts().replays > 10) == (loses_every > 0));
  for (const auto& [id, entry] : asked)
    expect(r.records.at(id), entry);
  r.expect_empty();
}

} // namespace

TEST_CASE("beam search finds what transformers finds", "[actors][batching][search]") {
  const std::string model = GENERATE("llama", "gpt2", "qwen2", "mistral");
  const auto [shards, blocks] = GENERATE(table<uint32_t, uint32_t>({{1, 400}, {2, 40}}));
  check_model("beams", model, shards, blocks, beams_of, expect_beams);
}

TEST_CASE("beams end at stop sequences as transformers' do", "[actors][batching][search]") {
  const std::string model = GENERATE("llama", "gpt2", "qwen2", "mistral");
  const auto [shards, blocks] = GENERATE(table<uint32_t, uint32_t>({{1, 400}, {2, 40}}));
  check_model("beams", model, shards, blocks, stopped_beams_of, expect_stopped_beams,
              "decoding_stops.json");
}

TEST_CASE("groups of beams find what transformers' find", "[actors][batching][search]") {
  const std::string model = GENERATE("llama", "gpt2", "qwen2", "mistral");
  const auto [shards, blocks] = GENERATE(table<uint32_t, uint32_t>({{1, 400}, {2, 40}}));
  check_model("beams", model, shards, blocks, grouped_beams_of, expect_beams,
              "decoding_groups.json");
}

TEST_CASE("contrastive search finds what transformers finds", "[actors][batching][search]") {
  const std::string model = GENERATE("llama", "gpt2", "qwen2", "mistral");
  const auto [shards, blocks] = GENERATE(table<uint32_t, uint32_t>({{1, 400}, {2, 40}}));
  check_model("contrastive", model, shards, blocks, contrastive_of,
              [](const rig::record& got, element entry) {
                CAPTURE(simdjson::minify(entry));
                CHECK(!got.fault);
                CHECK(got.tokens == ids(entry["tokens"]));
              });
}
