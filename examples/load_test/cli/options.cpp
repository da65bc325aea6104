#include "troupe/examples/load_test/cli/options.hpp"

#include <algorithm>

#include <CLI/CLI.hpp>

#include "troupe/examples/load_test/dialects/dialect.hpp"

namespace troupe::load_test {

namespace {

std::vector<std::string> words(auto&& from) {
  return {std::begin(from), std::end(from)};
}

/// One of some words; says which there are.
CLI::Validator one_of(std::vector<std::string> allowed) {
  return CLI::Validator{[allowed](std::string& text) -> std::string {
                          if (std::find(allowed.begin(), allowed.end(), text) != allowed.end())
                            return {};
                          std::string list;
                          for (const auto& word : allowed)
                            list += (list.empty() ? "" : ", ") + word;
                          return '"' + text + "\" is not allowed; allowed: " + list;
                        },
                        ""};
}

/// A number within limits; says which.
CLI::Validator number_in(double low, double high, bool low_allowed = true) {
  return CLI::Validator{[=](std::string& text) -> std::string {
                          double value = 0;
                          if (CLI::detail::lexical_cast(text, value) && value <= high &&
                              (low_allowed ? value >= low : value > low))
                            return {};
                          auto show = [](double x) {
                            std::string out = std::to_string(x);
                            out.erase(out.find_last_not_of('0') + 1);
                            return out.back() == '.' ? out.substr(0, out.size() - 1) : out;
                          };
                          return '"' + text + "\" is not allowed; allowed: a number from " +
                                 (low_allowed ? "" : "above ") + show(low) + " to " + show(high);
                        },
                        ""};
}

void add_target(CLI::App& app, options& to) {
  app.add_option("url", to.url, "The server: http://HOST:PORT, https://HOST:PORT, unix:/PATH")
      ->type_name("URL");
  app.add_option(
         "--dialect", to.dialect,
         "How it is spoken to: openai-chat, openai (text completions), lmi (/invocations), tgi, "
         "task (LMI's tasks other than generation) [openai-chat]")
      ->check(one_of(words(dialect_names)))
      ->type_name("NAME")
      ->group("Server");
  auto text = [&](const char* name, std::string& into, const char* type, const char* help) {
    return app.add_option(name, into, help)->type_name(type)->group("Server");
  };
  text("--model", to.model, "NAME", "Model to ask for [the first one of /v1/models]");
  text("--path", to.path, "PATH", "Path of the requests, in place of the dialect's");
  text("--api-key", to.api_key, "KEY",
       "Sent as \"Authorization: Bearer KEY\" [the variable OPENAI_API_KEY]");
  app.add_option("--header", to.headers, "Another header, \"Name: value\"; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group("Server");
  app.add_flag("--insecure", to.insecure, "Accept any certificate")->group("Server");
  text("--ca-file", to.ca_file, "FILE", "PEM certificates to trust, in place of the system's");
  text("--lmi-format", to.lmi_format, "FORM", "Answers of lmi: json, jsonlines, sse [jsonlines]")
      ->check(one_of({"json", "jsonlines", "sse"}));
  text("--task", to.task, "NAME", "Task of the dialect task, e.g. fill-mask [text-classification]")
      ->check(one_of(words(task_names)));
  text("--mask-token", to.mask_token, "TEXT", "Mask token of fill-mask's model [[MASK]]");
  app.add_flag("--no-stream", to.no_stream,
               "Ask for whole answers; there is no time to first token "
               "then")
      ->group("Server");
  app.add_flag(
         "--allow-eos", to.allow_eos,
         "Let answers end early; by default the server is asked to go on to the wanted length")
      ->group("Server");
  app.add_option("--temperature", to.temperature, "0 is greedy [0]")
      ->check(number_in(0, 100))
      ->group("Server");
  text("--extra-body", to.extra_body, "JSON",
       "Members to put over every request's body, e.g. '{\"top_p\": 0.9}'");
}

void add_load(CLI::App& app, options& to) {
  constexpr double most_users = 1'000'000;
  auto time = [&](const char* name, std::string& into, const char* help) {
    app.add_option(name, into, help)->type_name("TIME")->group("Load");
  };
  app.add_option("--users", to.users,
                 "Closed loop: so many users, each of whom waits for an answer "
                 "before the next request [8]")
      ->check(number_in(1, most_users))
      ->type_name("N")
      ->group("Load");
  app.add_option("--rate", to.rate,
                 "Open loop: so many requests per second, whether they are answered or not")
      ->check(number_in(0, 1e6, false))
      ->type_name("R")
      ->group("Load");
  app.add_option(
         "--arrivals", to.arrivals,
         "Open loop: constant, poisson, gamma (see --burstiness), ramp (from --ramp-from to "
         "--rate), trace (see --trace) [poisson]")
      ->check(one_of({"constant", "poisson", "gamma", "ramp", "trace"}))
      ->type_name("KIND")
      ->group("Load");
  app.add_option("--burstiness", to.burstiness,
                 "Shape of gamma arrivals: 1 is poisson, less comes in bursts [0.25]")
      ->check(number_in(0.001, 1000))
      ->group("Load");
  app.add_option("--ramp-from", to.ramp_from, "Rate at which a ramp begins [0]")
      ->check(number_in(0, 1e6))
      ->type_name("R")
      ->group("Load");
  time("--ramp-time", to.ramp_time, "How long the rate grows [--duration]");
  time("--ramp-up", to.ramp_up, "Closed loop: users begin spread over this time [200us for each]");
  time("--think-time", to.think_time, "A user's pause between an answer and the next request [0]");
  app.add_option("--trace", to.trace,
                 "Replays the requests of a file: SECONDS[,INPUT,OUTPUT] lines, "
                 "Azure's CSV or Mooncake's JSON lines")
      ->type_name("FILE")
      ->group("Load");
  app.add_option("--trace-speed", to.trace_speed, "2 replays a trace in half its time [1]")
      ->check(number_in(0.001, 1e6))
      ->group("Load");
  time("--duration", to.duration, "Measured time, e.g. 30s [10s, or until --requests are done]");
  app.add_option("--requests", to.requests, "End after so many requests")
      ->check(number_in(1, 1e9))
      ->type_name("N")
      ->group("Load");
  time("--warmup", to.warm_up, "Time at the begin that is not measured [0]");
  time("--timeout", to.timeout, "A request that takes longer has failed [300s]");
  app.add_option(
         "--max-in-flight", to.max_in_flight,
         "Open loop: requests beyond so many wait here, and their waiting counts [no limit]")
      ->check(number_in(1, most_users))
      ->type_name("N")
      ->group("Load");
  app.add_option("--workers", to.workers, "Threads that send and receive [1]")
      ->check(number_in(1, 64))
      ->type_name("N")
      ->group("Load");
}

void add_prompts(CLI::App& app, options& to) {
  app.add_option("--input-tokens", to.input_tokens,
                 "Tokens of a prompt, all counted: N, uniform:LOW:HIGH, normal:MEAN:DEVIATION, "
                 "exponential:MEAN [128]")
      ->type_name("LENGTH")
      ->group("Prompts");
  app.add_option("--output-tokens", to.output_tokens, "Tokens of an answer, likewise [64]")
      ->type_name("LENGTH")
      ->group("Prompts");
  app.add_option("--tokenizer", to.tokenizer,
                 "Model folder that counts tokens [the server's /tokenize]")
      ->type_name("FOLDER")
      ->group("Prompts");
  app.add_option("--prompts", to.prompts,
                 "Prompts of a file, in order: text (one a line), JSON lines, or ShareGPT's JSON")
      ->type_name("FILE")
      ->group("Prompts");
  app.add_option("--shared-prefix", to.shared_prefix,
                 "Share of each prompt that is the same for all, from 0 to 1 [0]")
      ->check(number_in(0, 1))
      ->type_name("SHARE")
      ->group("Prompts");
  app.add_option("--prefix-groups", to.prefix_groups, "So many different shared prefixes [1]")
      ->check(number_in(1, 1e6))
      ->type_name("N")
      ->group("Prompts");
  app.add_option("--turns", to.turns,
                 "Requests of one conversation; each brings all that was said before [1]")
      ->check(number_in(1, 1000))
      ->type_name("N")
      ->group("Prompts");
  app.add_flag("--token-ids", to.token_ids,
               "Dialect openai: send random token ids, which needs no tokenizer; see --vocabulary")
      ->group("Prompts");
  app.add_option("--vocabulary", to.vocabulary, "Random token ids are below this [250]")
      ->check(number_in(4, 1 << 24))
      ->type_name("N")
      ->group("Prompts");
  app.add_option("--seed", to.seed, "Same seed, same load [1]")->type_name("N")->group("Prompts");
}

void add_rounds(CLI::App& app, options& to) {
  app.add_option("--slo", to.slo,
                 "Objectives, e.g. ttft_p99=500ms,itl_p99=60ms (of ttft, itl, tpot, e2e; any "
                 "percentile, or max): goodput, and exit code 1 when one is missed")
      ->type_name("LIST")
      ->group("Rounds");
  app.add_option("--sweep-rate", to.sweep_rate, "One run for each rate, e.g. 1,2,4")
      ->delimiter(',')
      ->check(number_in(0, 1e6, false))
      ->type_name("LIST")
      ->group("Rounds");
  app.add_option("--sweep-users", to.sweep_users, "One run for each number of users")
      ->delimiter(',')
      ->check(number_in(1, 1e6))
      ->type_name("LIST")
      ->group("Rounds");
  app.add_option("--search", to.search,
                 "Looks for the highest rate that keeps --slo, between two rates if they are given")
      ->expected(0, 1)
      ->type_name("[LOW:HIGH]")
      ->group("Rounds");
  app.add_option("--repeats", to.repeats, "Runs of each load, for confidence intervals [1]")
      ->check(number_in(1, 1000))
      ->type_name("N")
      ->group("Rounds");
}

void add_reports(CLI::App& app, options& to) {
  auto file = [&](const char* name, std::string& into, const char* help) {
    app.add_option(name, into, help)->type_name("FILE")->group("Reports");
  };
  file("--json", to.json, "Writes every figure as JSON; - is the standard output");
  file("--csv", to.csv, "Writes a line of figures for each load");
  file("--requests-csv", to.requests_csv, "Writes a line for each request");
  file("--html", to.html, "Writes one page with plots that needs no network");
  app.add_flag("-q,--quiet", to.quiet, "No live view, and no table at the end")->group("Reports");
}

void add_others(CLI::App& app, options& to) {
  app.add_option(
         "--behaviour", to.behaviour,
         "Clients that misbehave: cancel:K (close after K tokens), slow-reader:BYTES_PER_S, "
         "half-close:K (close their side after K tokens), storm:N (N connections at once). What "
         "the server did is told")
      ->type_name("KIND")
      ->group("Tests of a server and of this client");
  app.add_option(
         "--behaviour-share", to.behaviour_share,
         "Share of the users, or of an open loop's requests, that do; the others are measured "
         "as ever [0.5]")
      ->check(number_in(0, 1, false))
      ->type_name("SHARE")
      ->group("Tests of a server and of this client");
  app.add_option("--mock", to.mock,
                 "Starts a built-in server with set delays in place of URL: "
                 "ttft=20ms,itl=10ms,jitter=0,tokens=64,pause=5s:2s,errors=0.01:503")
      ->expected(0, 1)
      ->type_name("[SETTINGS]")
      ->group("Tests of a server and of this client");
}

} // namespace

void add_run_flags(CLI::App& app, options& to) {
  add_target(app, to);
  add_load(app, to);
  add_prompts(app, to);
  add_rounds(app, to);
  add_reports(app, to);
  add_others(app, to);
}

void note_given(const CLI::App& app, options& to) {
  to.with_mock = app.count("--mock") > 0;
  to.searches = app.count("--search") > 0;
  for (const auto* option : app.get_options()) {
    if (option->count() == 0 || option->get_lnames().empty())
      continue;
    const auto& name = option->get_lnames().front();
    std::string value;
    for (const auto& part : option->results())
      value += (value.empty() ? "" : ",") + part;
    if (name == "api-key" || name == "header")
      value = "(not shown)";
    to.given.emplace_back("--" + name, value);
  }
}

} // namespace troupe::load_test
