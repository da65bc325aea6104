#include <cstdio>

#include <CLI/CLI.hpp>
#include <sys/resource.h>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/cli/commands.hpp"
#include "troupe/examples/load_test/cli/options.hpp"
#include "troupe/examples/load_test/cli/session.hpp"
#include "troupe/runtime/help.hpp"
#include "troupe/runtime/process.hpp"

namespace {

using namespace troupe::load_test;

constexpr auto about =
    "Measures a server of language models: time to first token, times between tokens, throughput,\n"
    "errors. Latencies count from the moment at which a request was due.";

constexpr auto examples =
    "Examples:\n"
    "  troupe-load http://127.0.0.1:8080 --users 16 --duration 30s\n"
    "      16 users, each waiting for an answer before the next request\n"
    "  troupe-load http://127.0.0.1:8080 --rate 8 --slo ttft_p99=500ms,itl_p99=60ms\n"
    "      8 requests a second whatever happens; exit code 1 if an objective is missed\n"
    "  troupe-load http://127.0.0.1:8080 --sweep-rate 1,2,4,8 --repeats 3 --html report.html\n"
    "      a report with plots over the rate, and confidence intervals\n"
    "  troupe-load http://127.0.0.1:8080 --search --slo ttft_p99=500ms\n"
    "      the highest rate that keeps the objective\n"
    "  troupe-load http://127.0.0.1:8080 --behaviour cancel:3\n"
    "      half of the clients leave after three tokens: what does the server do?\n"
    "  troupe-load compare before.json after.json\n"
    "  troupe-load --mock ttft=20ms,itl=10ms --users 100\n"
    "      checks this program itself\n"
    "\n"
    "Exit codes: 0 fine, 1 an objective was missed or a request failed, 2 a flag is wrong.";

/// Thousands of connections need as many files.
void raise_file_limit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0)
    return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int usage(const std::string& what) {
  std::fprintf(stderr, "troupe-load: %s; see `troupe-load --help`\n", what.c_str());
  return static_cast<int>(exit_code::usage);
}

} // namespace

int main(int argc, char** argv) {
  troupe::runtime::take_signals();
  raise_file_limit();
  CLI::App app{about, "troupe-load"};
  app.set_version_flag("--version", "troupe-load " TROUPE_VERSION);
  app.formatter(troupe::runtime::help_formatter(troupe::runtime::help_width()));
  app.footer(examples);
  options o;
  add_run_flags(app, o);
  mock_arguments mock;
  auto* mock_command = add_mock(app, mock);
  compare_arguments compared;
  auto* compare_command = add_compare(app, compared);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0)
      return app.exit(e);
    return usage(e.what());
  }
  if (mock_command->parsed())
    return static_cast<int>(run_mock(mock));
  if (compare_command->parsed())
    return static_cast<int>(run_compare(compared));
  note_given(app, o);
  auto plan = prepare(o);
  if (!plan)
    return static_cast<int>(complain(plan.error()));
  return static_cast<int>(carry_out(*plan, o));
}
