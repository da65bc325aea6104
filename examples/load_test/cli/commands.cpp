#include "troupe/examples/load_test/cli/commands.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>

#include <CLI/CLI.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/mock/server.hpp"
#include "troupe/examples/load_test/report/compare.hpp"
#include "troupe/examples/load_test/report/json_report.hpp"
#include "troupe/runtime/process.hpp"

namespace troupe::load_test {

namespace {

caf::expected<report::test_report> read_report(const std::string& file) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return caf::make_error(ec::bad_option,
                           file + " cannot be read; it should be what --json wrote");
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  auto out = report::parse_json(text);
  if (!out)
    return caf::make_error(ec::bad_option, file + ": " + text_of(out.error()));
  return out;
}

} // namespace

CLI::App* add_mock(CLI::App& app, mock_arguments& to) {
  auto* sub = app.add_subcommand("mock", "Serves every dialect at set times, without a model");
  sub->add_option(
         "settings", to.settings,
         "ttft=20ms,itl=10ms,jitter=0,tokens=64,pause=5s:2s (from 5 s after the first request "
         "on, 2 s long),errors=0.01:503 (or 0.01:drop),threads=1,seed=0")
      ->type_name("SETTINGS");
  sub->add_option("--port", to.port, "On 127.0.0.1; 0 takes a free one [8080]")->type_name("N");
  return sub;
}

CLI::App* add_compare(CLI::App& app, compare_arguments& to) {
  auto* sub = app.add_subcommand("compare", "Says which differences of two JSON reports are real");
  sub->footer("");
  sub->add_option("before", to.before, "Report of --json")->type_name("A.json")->required();
  sub->add_option("after", to.after, "Report of --json")->type_name("B.json")->required();
  return sub;
}

exit_code run_mock(const mock_arguments& given) {
  auto settings = parse_mock(given.settings);
  if (!settings)
    return complain(settings.error());
  auto server = mock_server::start(*settings, given.port);
  if (!server)
    return complain(server.error());
  std::printf(
      "troupe-load mock serves openai-chat, openai, lmi, tgi and task on http://127.0.0.1:%u; "
      "Ctrl-C stops\n",
      (*server)->port());
  std::fflush(stdout);
  while (runtime::wait_signal(std::chrono::hours{1}) == 0) {
  }
  std::printf("%llu requests\n", static_cast<unsigned long long>((*server)->requests()));
  return exit_code::fine;
}

exit_code run_compare(const compare_arguments& given) {
  auto before = read_report(given.before);
  if (!before)
    return complain(before.error());
  auto after = read_report(given.after);
  if (!after)
    return complain(after.error());
  auto found = report::compare(*before, *after);
  if (!found)
    return complain(caf::make_error(ec::bad_option, text_of(found.error())));
  auto text = report::comparison_table(*found, given.before, given.after, report::style_of(stdout));
  std::fputs(text.c_str(), stdout);
  return exit_code::fine;
}

} // namespace troupe::load_test
