#include "troupe/examples/load_test/cli/session.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>

#include <unistd.h>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/cli/behaviour.hpp"
#include "troupe/examples/load_test/cli/load_flags.hpp"
#include "troupe/examples/load_test/report/csv_report.hpp"
#include "troupe/examples/load_test/report/html_report.hpp"
#include "troupe/examples/load_test/report/json_report.hpp"
#include "troupe/examples/load_test/report/live_view.hpp"
#include "troupe/examples/load_test/report/summary_table.hpp"
#include "troupe/examples/load_test/run/run.hpp"
#include "troupe/runtime/process.hpp"

namespace troupe::load_test {

namespace {

constexpr auto look_period = std::chrono::milliseconds{250};
constexpr nanoseconds idle_patience = 10'000'000'000;
constexpr uint32_t most_search_runs = 24;
constexpr int tries_if_spoilt = 3;
constexpr double search_precision = 1.05;
constexpr double least_rate = 0.01;

class session {
public:
  session(const test_plan& plan, const options& o)
      : plan_{plan}, options_{o}, view_{stderr, o.quiet} {
    report_.swept = plan.search || !plan.sweep_rate.empty() ? "rate"
                    : plan.sweep_users.empty()              ? ""
                                                            : "users";
  }

  exit_code run() {
    for (const auto& note : plan_.notes)
      view_.note("note: " + note);
    if (auto e = open_requests_csv())
      return complain(e);
    server_look before;
    if (!plan_.behaviour.empty())
      before = look_at_server(plan_);
    if (plan_.search)
      search();
    else if (!plan_.sweep_rate.empty())
      sweep(plan_.sweep_rate);
    else if (!plan_.sweep_users.empty())
      sweep(plan_.sweep_users);
    else
      measure(0, 0, "");
    view_.clear();
    auto code = verdict();
    if (failed_)
      code = complain(failed_);
    if (!plan_.behaviour.empty() && !tell_behaviour(before))
      code = exit_code::missed;
    if (report_.points.empty())
      return code;
    return write_reports() ? code : exit_code::missed;
  }

private:
  /// Runs one load as often as asked for. Returns the point, or null when it was interrupted before
  /// anything was measured.
  const report::load_point* measure(double rate, uint32_t users, const std::string& label) {
    report::load_point point;
    for (uint32_t repeat = 0; repeat < plan_.repeats && !interrupted_ && !failed_; ++repeat) {
      auto settings = settings_of(plan_, options_, rate, users, run_number_++);
      if (!settings) {
        failed_ = settings.error();
        break;
      }
      auto phase = label;
      if (plan_.repeats > 1)
        phase += (phase.empty() ? "" : ", ") + std::string{"repeat "} + std::to_string(repeat + 1) +
                 " of " + std::to_string(plan_.repeats);
      auto outcome = run_load(*settings, watcher(phase));
      describe(outcome.ordinary, *settings);
      if (requests_csv_.is_open())
        report::write_requests_csv(requests_csv_, outcome.ordinary, report_.points.size() + 1,
                                   repeat + 1);
      // Clients that misbehave are counted apart, over all runs.
      auto& odd = odd_.requests;
      odd.insert(odd.end(), outcome.odd.requests.begin(), outcome.odd.requests.end());
      odd_.failure_texts.insert(odd_.failure_texts.end(), outcome.odd.failure_texts.begin(),
                                outcome.odd.failure_texts.end());
      interrupted_ |= outcome.interrupted;
      // A storm has no ordinary requests: it is told in words, not in percentiles.
      if (settings->odd_kept_apart)
        continue;
      if (!outcome.ordinary.requests.empty() || point.repeats.empty())
        point.repeats.push_back(report::summarize(outcome.ordinary, plan_.objectives));
    }
    if (point.repeats.empty())
      return nullptr;
    report_.points.push_back(std::move(point));
    return &report_.points.back();
  }

  void describe(run_results& results, const run_settings& settings) const {
    auto& what = results.what;
    what = plan_.what;
    what.load = describe_load(settings.plan);
    what.users = settings.plan.users;
    what.rate = settings.plan.users > 0 || settings.plan.arrival.kind == arrival_kind::trace
                    ? 0
                    : settings.plan.arrival.rate;
    what.seed = settings.seed;
    what.started_at_unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count() -
                              results.end / 1'000'000;
  }

  run_watcher watcher(const std::string& label) {
    return [this, label](const report::live_snapshot& seen) {
      auto shown = seen;
      if (!label.empty())
        shown.phase = label + ", " + shown.phase;
      if (interrupted_)
        shown.phase = "stopping";
      view_.show(shown);
      if (runtime::wait_signal(look_period) == 0)
        return true;
      // A second Ctrl-C does not even wait for the reports.
      if (interrupted_)
        _exit(130);
      interrupted_ = true;
      view_.note("interrupted: the reports cover what was measured until now");
      return false;
    };
  }

  template <class T>
  void sweep(const std::vector<T>& loads) {
    for (size_t i = 0; i < loads.size() && !interrupted_ && !failed_; ++i) {
      char label[80];
      std::snprintf(label, sizeof label, "%s %g, %zu of %zu", report_.swept.c_str(),
                    static_cast<double>(loads[i]), i + 1, loads.size());
      if constexpr (std::is_same_v<T, double>)
        measure(loads[i], 0, label);
      else
        measure(0, loads[i], label);
    }
  }

  enum class trial { kept, missed, none };

  trial try_rate(double rate) {
    char label[60];
    std::snprintf(label, sizeof label, "search, rate %.4g", rate);
    report::summary all;
    // A moment's disturbance of this machine should not end the search.
    for (int tries = 0; tries < tries_if_spoilt; ++tries) {
      if (tries > 0)
        report_.points.pop_back();
      ++searched_;
      const auto* point = measure(rate, 0, label);
      if (!point || interrupted_ || failed_)
        return trial::none;
      all = report::combined(*point);
      if (!report::spoilt(all.remarks))
        break;
    }
    if (report::spoilt(all.remarks)) {
      spoilt_ = true;
      return trial::none;
    }
    auto kept = report::objectives_met(all) && all.failed == 0;
    view_.note((kept ? "kept at " : "missed at ") + std::string{label + 13} + "/s");
    return kept ? trial::kept : trial::missed;
  }

  /// Doubles or halves until the objectives change sides, then halves the interval.
  void search() {
    auto low = plan_.search->low, high = plan_.search->high;
    auto rate = low.value_or(1);
    auto result = try_rate(rate);
    auto first = result;
    while (result == first && result != trial::none && searched_ < most_search_runs) {
      if (result == trial::kept) {
        low = rate;
        if (plan_.search->high && rate >= *plan_.search->high)
          break;
        rate = std::min(rate * 2, plan_.search->high.value_or(1e6));
      } else {
        high = rate;
        if (plan_.search->high || rate / 2 < least_rate)
          break;
        low.reset();
        rate /= 2;
      }
      result = try_rate(rate);
    }
    if (result != first && result != trial::none)
      (result == trial::kept ? low : high) = rate;
    auto bracketed = result != trial::none && result != first;
    while (bracketed && *high / *low > search_precision && searched_ < most_search_runs) {
      rate = std::sqrt(*low * *high);
      result = try_rate(rate);
      if (result == trial::none)
        break;
      (result == trial::kept ? low : high) = rate;
    }
    report::search_answer answer;
    if (first == trial::kept || bracketed)
      answer.highest = low;
    char note[160];
    if (spoilt_)
      std::snprintf(note, sizeof note,
                    "ended at %.4g/s, where the load generator itself was the limit", rate);
    else if (interrupted_)
      std::snprintf(note, sizeof note, "interrupted before it was found exactly");
    else if (bracketed)
      std::snprintf(note, sizeof note, "the objectives are missed at %.4g/s", *high);
    else if (first == trial::kept)
      std::snprintf(note, sizeof note, "the objectives are kept up to the end of the search");
    else
      std::snprintf(note, sizeof note, "the objectives are missed even at %.4g/s", rate);
    answer.note = note;
    std::stable_sort(report_.points.begin(), report_.points.end(),
                     [](const auto& a, const auto& b) {
                       return a.repeats.front().what.rate < b.repeats.front().what.rate;
                     });
    report_.search = answer;
  }

  exit_code verdict() const {
    auto good = true;
    for (const auto& point : report_.points) {
      auto all = report::combined(point);
      // A search crosses the line on purpose: what counts is whether there is a rate on this side.
      if (!report_.search)
        good &= report::objectives_met(all) && all.failed == 0;
    }
    if (report_.search)
      good = report_.search->highest.has_value();
    return good ? exit_code::fine : exit_code::missed;
  }

  bool tell_behaviour(const server_look& before) {
    auto idle = wait_until_idle(plan_, idle_patience);
    auto after = look_at_server(plan_);
    auto text = behaviour_report(plan_, odd_, before, after, idle);
    std::fputs(text.c_str(), options_.json == "-" ? stderr : stdout);
    return came_through(after);
  }

  caf::error open_requests_csv() {
    if (options_.requests_csv.empty())
      return {};
    requests_csv_.open(options_.requests_csv);
    if (!requests_csv_)
      return caf::make_error(ec::bad_option,
                             "--requests-csv " + options_.requests_csv + " cannot be written");
    report::write_requests_csv_header(requests_csv_);
    return {};
  }

  bool write(const char* flag, const std::string& file,
             const std::function<void(std::ostream&)>& what) {
    if (file.empty())
      return true;
    if (file == "-") {
      what(std::cout);
      std::cout.flush();
      return std::cout.good();
    }
    std::ofstream out{file, std::ios::binary};
    what(out);
    out.close();
    if (!out)
      std::fprintf(stderr, "troupe-load: %s %s cannot be written\n", flag, file.c_str());
    return out.good();
  }

  bool write_reports() {
    auto good = true;
    good &=
        write("--json", options_.json, [&](std::ostream& out) { out << report::to_json(report_); });
    good &= write("--csv", options_.csv,
                  [&](std::ostream& out) { report::write_summary_csv(out, report_); });
    good &=
        write("--html", options_.html, [&](std::ostream& out) { out << report::to_html(report_); });
    if (requests_csv_.is_open()) {
      requests_csv_.close();
      good &= !requests_csv_.fail();
    }
    if (!options_.quiet && options_.json != "-")
      std::fputs(report::summary_table(report_, report::style_of(stdout)).c_str(), stdout);
    return good;
  }

  const test_plan& plan_;
  const options& options_;
  report::live_view view_;
  report::test_report report_;
  run_results odd_;
  std::ofstream requests_csv_;
  caf::error failed_;
  uint32_t run_number_ = 0;
  uint32_t searched_ = 0;
  bool interrupted_ = false;
  bool spoilt_ = false;
};

} // namespace

exit_code carry_out(const test_plan& plan, const options& o) {
  return session{plan, o}.run();
}

exit_code complain(const caf::error& reason) {
  std::fprintf(stderr, "troupe-load: %s\n", text_of(reason).c_str());
  return reason == caf::make_error(ec::bad_option) ? exit_code::usage : exit_code::missed;
}

} // namespace troupe::load_test
