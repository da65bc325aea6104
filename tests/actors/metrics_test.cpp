#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <thread>

#include "troupe/actors/telemetry/metrics.hpp"

using namespace troupe::telemetry;

namespace {

const family& find(const std::vector<family>& all, const std::string& name) {
  auto place = std::find_if(all.begin(), all.end(), [&](auto& f) { return f.name == name; });
  REQUIRE(place != all.end());
  return *place;
}

double value_of(const family& f, const std::string& label_value) {
  for (const auto& s : f.samples)
    for (const auto& l : s.labels)
      if (l.value == label_value)
        return s.value;
  FAIL("no sample of " << label_value);
  return 0;
}

} // namespace

TEST_CASE("a histogram counts by upper bound, the bound included", "[actors][telemetry]") {
  static constexpr double bounds[] = {1, 2, 4};
  histogram h{bounds};
  for (double x : {0.5, 1.0, 1.5, 4.0, 4.5})
    h.observe(x);
  h.observe(2.0, 3);
  CHECK(h.cumulative() == std::vector<uint64_t>{2, 6, 7, 8});
  CHECK(h.count() == 8);
  CHECK(h.sum() == Approx(17.5));
}

TEST_CASE("bounds ascend and fit a histogram", "[actors][telemetry]") {
  for (auto bounds : {latency_bounds(), size_bounds()}) {
    CHECK(bounds.size() <= histogram::max_bounds);
    CHECK(std::is_sorted(bounds.begin(), bounds.end(), std::less_equal<>{}));
  }
}

TEST_CASE("nothing is lost when several threads record", "[actors][telemetry]") {
  metrics all;
  auto m = all.model("x");
  auto record = [&] {
    for (int i = 0; i < 20000; ++i) {
      m->generated_tokens.add();
      m->inter_token_time.observe(0.01);
      all.sent(actor_kind::request);
      all.handled(actor_kind::request);
    }
  };
  std::thread other{record};
  record();
  for (int i = 0; i < 50; ++i)
    all.snapshot();
  other.join();
  CHECK(m->generated_tokens.value() == 40000);
  CHECK(m->inter_token_time.count() == 40000);
  CHECK(m->inter_token_time.sum() == Approx(400.0));
  CHECK(all.actor(actor_kind::request).sent.value() == 40000);
}

TEST_CASE("a model's numbers are made once and found by name", "[actors][telemetry]") {
  metrics all;
  CHECK(all.model("a") == all.model("a"));
  CHECK(all.model("a") != all.model("b"));
}

TEST_CASE("a snapshot has a family for each number and a sample for each model",
          "[actors][telemetry]") {
  metrics all;
  auto a = all.model("a");
  auto b = all.model("b \"quoted\"");
  a->running.set(3);
  a->blocks_free.set(-1);
  b->running.set(5);
  a->ended(outcome::stop_sequence).add(2);
  b->time_to_first_token.observe(0.2);
  all.sent(actor_kind::scheduler, 7);
  all.handled(actor_kind::scheduler, 4);
  auto families = all.snapshot();

  std::set<std::string> names;
  for (auto& f : families) {
    CHECK(f.name.rfind("troupe_", 0) == 0);
    CHECK(!f.help.empty());
    CHECK(names.insert(f.name).second);
    if (f.type == family_type::counter)
      CHECK(f.name.ends_with("_total"));
  }
  for (auto name :
       {"troupe_requests_total", "troupe_requests_waiting", "troupe_requests_running",
        "troupe_kv_blocks_used", "troupe_kv_blocks_free", "troupe_kv_blocks_shared",
        "troupe_time_to_first_token_seconds", "troupe_inter_token_seconds", "troupe_step_seconds",
        "troupe_batch_rows", "troupe_batch_tokens", "troupe_generated_tokens_total"})
    CHECK(names.count(name) == 1);

  CHECK(value_of(find(families, "troupe_requests_running"), "a") == 3);
  CHECK(value_of(find(families, "troupe_requests_running"), "b \"quoted\"") == 5);
  CHECK(value_of(find(families, "troupe_kv_blocks_free"), "a") == -1);
  CHECK(value_of(find(families, "troupe_requests_total"), "stop_sequence") == 2);
  CHECK(find(families, "troupe_requests_total").samples.size() == 2 * outcome_count);
  CHECK(value_of(find(families, "troupe_messages_total"), "scheduler") == 7);
  CHECK(value_of(find(families, "troupe_mailbox_depth"), "scheduler") == 3);
  auto& first_token = find(families, "troupe_time_to_first_token_seconds");
  CHECK(first_token.type == family_type::histogram);
  REQUIRE(first_token.samples.size() == 2);
  CHECK(first_token.samples[1].cumulative.back() == 1);
  CHECK(first_token.samples[1].cumulative.size() == first_token.samples[1].bounds.size() + 1);
  CHECK(first_token.samples[1].sum == Approx(0.2));
}

TEST_CASE("every outcome and kind of actor has a name of its own", "[actors][telemetry]") {
  std::set<std::string_view> names;
  for (size_t i = 0; i < outcome_count; ++i)
    CHECK(names.insert(to_string_view(static_cast<outcome>(i))).second);
  for (size_t i = 0; i < actor_kind_count; ++i)
    CHECK(names.insert(to_string_view(static_cast<actor_kind>(i))).second);
  CHECK(names.count("unknown") == 0);
}
