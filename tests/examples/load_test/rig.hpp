#pragma once

#include <chrono>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/mock/server.hpp"
#include "troupe/examples/load_test/run/run.hpp"

namespace troupe::load_test::test {

/// A server's port, a dialect, and the run of some requests against it.
struct rig {
  explicit rig(uint16_t port, std::string_view name = "openai-chat", dialect_settings s = {}) {
    to.where = parse_address("http://127.0.0.1:" + std::to_string(port)).value();
    to.endpoint = find_endpoint(to.where, 5).value();
    settings.to = &to;
    settings.speaks = make_dialect(name, std::move(s)).value();
    settings.path = settings.speaks->path();
    synthetic_settings prompts;
    prompts.input = parse_lengths("12").value();
    prompts.output = parse_lengths("8").value();
    settings.prompts = make_synthetic(prompts, word_table::approximate()).value();
    settings.plan.users = 4;
    settings.plan.requests = 12;
    settings.timeout = 10'000'000'000;
  }

  run_outcome run() {
    return run_load(settings, [](const report::live_snapshot&) {
      std::this_thread::sleep_for(std::chrono::milliseconds{2});
      return true;
    });
  }

  target to;
  run_settings settings;
};

/// A mock that answers at once.
inline mock_settings quick() {
  mock_settings s;
  s.ttft = 1'000'000;
  s.itl = 200'000;
  return s;
}

inline std::unique_ptr<mock_server> start(const mock_settings& s) {
  auto server = mock_server::start(s);
  REQUIRE(server);
  return std::move(*server);
}

inline size_t count(const run_results& r, outcome o) {
  size_t n = 0;
  for (const auto& request : r.requests)
    n += request.ended == o;
  return n;
}

} // namespace troupe::load_test::test
