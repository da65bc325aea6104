#include <catch2/catch.hpp>

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

#include "stage.hpp"

using namespace troupe;

namespace {

/// What comes out of `x` after it went over a wire.
template <class T>
T round_trip(caf::actor_system& sys, T x) {
  std::vector<char> wire;
  caf::binary_serializer out{sys, wire};
  REQUIRE(!out(x));
  T y;
  caf::binary_deserializer in{sys, wire};
  REQUIRE(!in(y));
  CHECK(in.remaining() == 0);
  return y;
}

/// Two values are taken as equal when they are written alike.
template <class T>
std::string written(const T& x) {
  return caf::deep_to_string(x);
}

template <class T>
void survives(caf::actor_system& sys, const T& x) {
  auto y = round_trip(sys, x);
  CHECK(written(y) == written(x));
  // Else the comparison above could not tell a value from an empty one.
  CHECK(written(T{}) != written(x));
}

sampling_params full_sampling() {
  sampling_params p;
  p.sample = true;
  p.seed = 0xfedcba9876543210;
  p.sequence_index = 3;
  p.temperature = 0.7f;
  p.top_k = 5;
  p.top_p = 0.9f;
  p.min_p = 0.1f;
  p.typical_p = 0.8f;
  p.epsilon_cutoff = 0.01f;
  p.eta_cutoff = 0.02f;
  p.repetition_penalty = 1.1f;
  p.encoder_repetition_penalty = 1.2f;
  p.frequency_penalty = 0.3f;
  p.presence_penalty = 0.4f;
  p.no_repeat_ngram_size = 3;
  p.min_new_tokens = 2;
  p.min_length = 9;
  p.eos_tokens = {2, 7};
  p.logit_bias = {{4, -1.5f}};
  p.bad_words = {{1, 2}, {3}};
  p.suppress_tokens = {11};
  p.encoder_no_repeat_ngram_size = 4;
  p.begin_suppress_tokens = {12};
  p.forced_bos_token = 13;
  p.forced_eos_tokens = {14};
  p.max_length = 15;
  p.decay_start = 16;
  p.decay_factor = 1.01f;
  p.renormalize = true;
  return p;
}

class messages : public test::stage {};

} // namespace

TEST_CASE_METHOD(messages, "sampling parameters survive the wire field by field",
                 "[actors][interfaces]") {
  auto p = full_sampling();
  CHECK(round_trip(sys, p) == p);
}

TEST_CASE_METHOD(messages, "a step survives the wire", "[actors][interfaces]") {
  troupe::step s;
  s.epoch = epoch_id{2};
  s.id = step_id{17};
  row_wants wants{true, true, true, true, true, 4, 6, candidate_scores::probabilities};
  s.rows = {{sequence_id{5}, 6, 7, 8, 9, 10, wants}};
  s.tokens = {1, 2, -3};
  s.blocks = {block_id{4}, block_id{5}};
  s.starts = {{sequence_id{5}, 2, {1, 2, 3}, full_sampling(), 12345.5}};
  s.copies = {{block_id{1}, block_id{2}}};
  s.swaps_in = {{block_id{3}, block_id{4}}};
  s.swaps_out = {{block_id{5}, block_id{6}}};
  s.dropped = {sequence_id{1}, sequence_id{9}};
  survives(sys, s);
  auto y = round_trip(sys, s);
  CHECK(y.starts.at(0).sampling == s.starts.at(0).sampling);
  CHECK(y.starts.at(0).rope_base == 12345.5);
  CHECK(y.rows.at(0).wants.hidden_state);
  CHECK(y.rows.at(0).block_count == 10);
  CHECK(y.dropped == s.dropped);
}

TEST_CASE_METHOD(messages, "a step's result survives the wire", "[actors][interfaces]") {
  step_result r;
  r.epoch = epoch_id{1};
  r.id = step_id{2};
  r.compute_ns = 123456789012;
  r.device_ns = 123456789011;
  r.turnaround_ns = 60000;
  row_result row;
  row.sequence = sequence_id{77};
  row.token = 9;
  row.logprob = -0.25f;
  row.top = {{9, -0.25f}, {3, -2.0f}};
  row.prompt = {{1, -1.0f}};
  row.prompt_top = {{{1, -1.0f}, {2, -3.0f}}};
  row.candidates = {{8, -0.1f}};
  row.candidate_logprobs = {-0.2f};
  row.candidate_keys = {-0.3f};
  row.hidden = {0.5f, -0.5f};
  row.fault = ec::row_fault;
  row.fault_text = "logits are not finite";
  r.rows = {row};
  survives(sys, r);
  auto y = round_trip(sys, r);
  CHECK(y.rows.at(0).fault == ec::row_fault);
  CHECK(y.rows.at(0).prompt_top == row.prompt_top);
  CHECK(y.rows.at(0).candidate_keys == row.candidate_keys);
  CHECK(y.rows.at(0).candidate_logprobs == row.candidate_logprobs);
}

TEST_CASE_METHOD(messages, "a new sequence, its tokens and the load survive the wire",
                 "[actors][interfaces]") {
  new_sequence n;
  n.prompt = {1, 2, 3};
  n.max_new_tokens = 40;
  n.sampling = full_sampling();
  n.stop_tokens = {2};
  n.search = {search_kind::contrastive, 4, 3, 0.75, early_stopping::never, 0.5f, 2, 0.25f, true};
  n.wants = {true, true, true, true, true, 3, 5, candidate_scores::probabilities};
  n.priority = 1;
  n.turn = 1ull << 40;
  n.cache_salt = "tenant";
  n.rope_base = 10000.5;
  n.slot_timeout_ms = 250;
  survives(sys, n);
  CHECK(round_trip(sys, n).sampling == n.sampling);
  CHECK(round_trip(sys, n).search == n.search);
  // What a request shares with its search is not left out silently.
  auto watched = n;
  watched.watch.shared = std::make_shared<search_watch>();
  std::vector<char> wire;
  caf::binary_serializer out{sys, wire};
  CHECK(out(watched));
  CHECK(round_trip(sys, n).turn == n.turn);
  CHECK(round_trip(sys, n).wants.scores == candidate_scores::probabilities);

  token_batch b;
  b.sequence = sequence_id{3};
  b.tokens.resize(2);
  b.tokens[1].token = 5;
  b.cached_tokens = 32;
  b.waited_us = 33;
  b.output = 2;
  survives(sys, b);
  CHECK(round_trip(sys, b).waited_us == 33);
  CHECK(round_trip(sys, b).output == 2);

  survives(sys, scheduler_load{1, 2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE_METHOD(messages, "an activation crosses as shape and raw bytes", "[actors][interfaces]") {
  std::vector<std::byte> raw(2 * 3 * 2);
  for (size_t i = 0; i < raw.size(); ++i)
    raw[i] = static_cast<std::byte>(i * 7);
  auto x = models::activation::from_bytes(models::dtype::bf16, 2, 3, raw);
  auto y = round_trip(sys, x);
  CHECK(y.type() == models::dtype::bf16);
  CHECK(y.rows() == 2);
  CHECK(y.columns() == 3);
  REQUIRE(!y.empty());
  CHECK(y.data() != x.data());
  CHECK(std::memcmp(y.data()->host_bytes(), raw.data(), raw.size()) == 0);
  CHECK(round_trip(sys, models::activation{}).empty());
}

TEST_CASE_METHOD(messages, "an activation whose bytes contradict its shape is refused",
                 "[actors][interfaces]") {
  auto x = models::activation::from_bytes(models::dtype::fp32, 2, 3, std::vector<std::byte>(24));
  std::vector<char> wire;
  caf::binary_serializer out{sys, wire};
  REQUIRE(!out(x));
  // Rows stand in bytes 1 to 8, columns in 9 to 16, behind the one-byte dtype, high byte first.
  auto refused = [&](std::vector<char> bytes) {
    models::activation y;
    caf::binary_deserializer in{sys, bytes};
    return static_cast<bool>(in(y));
  };
  CHECK(!refused(wire));
  auto huge = wire;
  huge[1] = 0x7f;
  CHECK(refused(huge));
  // 2^61 rows of 2^61 + 6 columns of 4 bytes: 64 bits of the product say 24.
  auto wrapped = wire;
  for (size_t i = 1; i <= 16; ++i)
    wrapped[i] = 0;
  wrapped[1] = wrapped[9] = 0x20;
  wrapped[16] = 6;
  CHECK(refused(wrapped));
  auto negative = wire;
  for (size_t i = 1; i <= 16; ++i)
    negative[i] = static_cast<char>(0xff);
  CHECK(refused(negative));
  auto unknown_type = wire;
  unknown_type[0] = 99;
  CHECK(refused(unknown_type));
}
