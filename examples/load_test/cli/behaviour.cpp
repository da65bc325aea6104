#include "troupe/examples/load_test/cli/behaviour.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/client/fetch.hpp"
#include "troupe/examples/load_test/duration.hpp"

namespace troupe::load_test {

namespace {

constexpr auto probe_timeout = std::chrono::seconds{30};
constexpr uint32_t probe_tokens = 2;
constexpr auto poll_period = std::chrono::milliseconds{5};

std::optional<double> running_now(const test_plan& plan) {
  auto metrics =
      fetch(*plan.to, "GET", path_below(plan.to->where, "/metrics"), {}, std::chrono::seconds{2});
  if (!metrics || metrics->status != 200)
    return std::nullopt;
  return running_in(metrics->body);
}

nanoseconds median_of(std::vector<nanoseconds>& values) {
  if (values.empty())
    return 0;
  auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string told(const server_look& look) {
  if (!look.answers)
    return "does not answer: " + look.why;
  return "answers within " + show_duration(look.took);
}

} // namespace

server_look look_at_server(const test_plan& plan) {
  server_look out;
  out.running = running_now(plan);
  auto said = plan.run.prompts->make(UINT64_MAX / 2, 0);
  said.output_tokens = probe_tokens;
  auto begin = std::chrono::steady_clock::now();
  auto answer = fetch(*plan.to, "POST", plan.run.path, plan.run.speaks->body(said), probe_timeout);
  out.took = std::chrono::nanoseconds{std::chrono::steady_clock::now() - begin}.count();
  out.answers = answer && answer->status == 200;
  if (!answer)
    out.why = text_of(answer.error());
  else if (answer->status != 200)
    out.why = "status " + std::to_string(answer->status);
  return out;
}

std::optional<nanoseconds> wait_until_idle(const test_plan& plan, nanoseconds patience) {
  auto begin = std::chrono::steady_clock::now();
  for (;;) {
    auto running = running_now(plan);
    auto passed = std::chrono::nanoseconds{std::chrono::steady_clock::now() - begin}.count();
    if (!running || passed > patience)
      return std::nullopt;
    if (*running == 0)
      return passed;
    std::this_thread::sleep_for(poll_period);
  }
}

std::optional<double> running_in(const std::string& metrics) {
  std::optional<double> sum;
  std::string_view rest = metrics;
  while (!rest.empty()) {
    auto end = rest.find('\n');
    auto line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    auto name = line.substr(0, line.find_first_of(" {"));
    auto counts = name.ends_with("running") || name.ends_with("requests_running") ||
                  name.ends_with("running_sequences") || name.ends_with("batch_current_size");
    auto space = line.rfind(' ');
    if (line.starts_with('#') || !counts || space == std::string_view::npos)
      continue;
    double value = 0;
    auto number = line.substr(space + 1);
    if (std::from_chars(number.data(), number.data() + number.size(), value).ec == std::errc{})
      sum = sum.value_or(0) + value;
  }
  return sum;
}

std::string behaviour_report(const test_plan& plan, const run_results& odd,
                             const server_look& before, const server_look& after,
                             std::optional<nanoseconds> idle_after) {
  std::string out =
      "behaviour " + plan.behaviour + ": " + std::to_string(odd.requests.size()) + " requests\n";
  std::array<std::vector<nanoseconds>, static_cast<size_t>(outcome::count)> times;
  std::array<uint64_t, static_cast<size_t>(outcome::count)> tokens{};
  for (const auto& r : odd.requests) {
    auto kind = static_cast<size_t>(r.ended);
    times[kind].push_back(r.end - r.sent);
    tokens[kind] += r.output_tokens;
  }
  for (size_t kind = 0; kind < times.size(); ++kind) {
    auto count = times[kind].size();
    if (count == 0)
      continue;
    auto longest = *std::max_element(times[kind].begin(), times[kind].end());
    char line[200];
    auto ended = static_cast<outcome>(kind);
    std::snprintf(
        line, sizeof line, "  %-16s %6zu   after %s (median), %s (longest); %.1f tokens each\n",
        ended == outcome::ok          ? "answered in full"
        : ended == outcome::cancelled ? "broken off by us"
                                      : name_of(ended),
        count, show_duration(median_of(times[kind])).c_str(), show_duration(longest).c_str(),
        static_cast<double>(tokens[kind]) / static_cast<double>(count));
    out += line;
  }
  for (const auto& [kind, text] : odd.failure_texts)
    out += "    " + std::string{name_of(kind)} + ": " + text + "\n";
  out += "  the server      before " + told(before) + "; after " + told(after) + "\n";
  if (idle_after)
    out += "  /metrics        shows nothing running " + show_duration(*idle_after) +
           " after the last request\n";
  else if (after.running)
    out += "  /metrics        still shows " + std::to_string(*after.running) + " running\n";
  return out;
}

bool came_through(const server_look& after) {
  return after.answers;
}

} // namespace troupe::load_test
