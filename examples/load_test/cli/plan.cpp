#include "troupe/examples/load_test/cli/plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <boost/json/parse.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/cli/load_flags.hpp"
#include "troupe/examples/load_test/client/fetch.hpp"
#include "troupe/examples/load_test/report/objectives.hpp"

namespace troupe::load_test {

namespace {

constexpr double connect_timeout_s = 5;
constexpr uint32_t default_users = 8;
constexpr nanoseconds user_stagger = 200'000;
/// Below the vocabulary of every model, and of servers that count bytes.
constexpr uint32_t default_vocabulary = 250;

caf::error bad(const std::string& what) {
  return caf::make_error(ec::bad_option, what);
}

caf::error check_together(const options& o) {
  auto loads = (o.users > 0) + (o.rate > 0) + !o.sweep_rate.empty() + !o.sweep_users.empty();
  if (o.url.empty() && !o.with_mock)
    return bad(
        "there is no URL: name the server, as in `troupe-load http://127.0.0.1:8080`, or try "
        "`troupe-load --mock`");
  if (!o.url.empty() && o.with_mock)
    return bad("--mock starts a server of its own: leave out the URL " + o.url);
  if (loads > 1 && !o.searches)
    return bad("only one of --users, --rate, --sweep-users and --sweep-rate");
  if (o.searches && o.slo.empty())
    return bad("--search needs --slo, e.g. --slo ttft_p99=500ms");
  if (o.searches && (o.users > 0 || !o.sweep_rate.empty() || !o.sweep_users.empty()))
    return bad("--search varies the rate itself: leave out --users and sweeps");
  auto has_trace = !o.trace.empty();
  if (has_trace && (o.users > 0 || !o.sweep_users.empty() || o.rate > 0 || o.searches))
    return bad("--trace brings its own arrivals: leave out --users, --rate and --search");
  auto given = [&](std::string_view flag) {
    return std::any_of(o.given.begin(), o.given.end(),
                       [&](const auto& g) { return g.first == flag; });
  };
  auto open_loop = o.rate > 0 || !o.sweep_rate.empty() || o.searches || has_trace;
  for (auto flag : {"--arrivals", "--burstiness", "--ramp-from", "--ramp-time", "--max-in-flight"})
    if (given(flag) && !open_loop && o.arrivals != "trace")
      return bad(std::string{flag} + " is for open loops: it needs --rate or --sweep-rate");
  for (auto flag : {"--ramp-up", "--think-time"})
    if (given(flag) && open_loop && (flag == std::string_view{"--ramp-up"} || o.turns == 1))
      return bad(std::string{flag} + " is for users: leave out --rate");
  if (o.arrivals == "trace" && !has_trace)
    return bad("--arrivals trace needs --trace FILE");
  if (o.token_ids && o.dialect != "openai")
    return bad("--token-ids needs --dialect openai, which alone takes them");
  if (o.token_ids && o.turns > 1)
    return bad("--token-ids has no conversations: leave out --turns");
  if (o.token_ids && !o.prompts.empty())
    return bad("--token-ids makes its own prompts: leave out --prompts");
  if (o.turns > 1 && o.dialect == "task")
    return bad("--turns needs a dialect that generates text");
  if (o.insecure && !o.ca_file.empty())
    return bad("--insecure accepts any certificate: leave out --ca-file");
  for (const auto& h : o.headers)
    if (auto colon = h.find(':');
        colon == 0 || colon == std::string::npos || h.find_first_of("\r\n") != std::string::npos)
      return bad("--header \"" + h + "\" is none; allowed: Name: value");
  return {};
}

caf::expected<std::unique_ptr<target>> find_target(const options& o, const mock_server* mock) {
  auto out = std::make_unique<target>();
  auto where = parse_address(mock ? "http://127.0.0.1:" + std::to_string(mock->port()) : o.url);
  if (!where)
    return where.error();
  out->where = *where;
  if (out->where.tls) {
    auto tls = client_tls::make(o.ca_file, o.insecure);
    if (!tls)
      return tls.error();
    out->tls = *tls;
  } else if (o.insecure || !o.ca_file.empty()) {
    return bad("--insecure and --ca-file need an https:// URL");
  }
  auto key = o.api_key;
  if (const char* from_environment = std::getenv("OPENAI_API_KEY"); key.empty() && from_environment)
    key = from_environment;
  if (key.find_first_of("\r\n") != std::string::npos)
    return bad("--api-key holds a line break");
  if (!key.empty())
    out->headers.push_back("Authorization: Bearer " + key);
  out->headers.insert(out->headers.end(), o.headers.begin(), o.headers.end());
  auto endpoint = find_endpoint(out->where, connect_timeout_s);
  if (!endpoint)
    return endpoint.error();
  out->endpoint = *endpoint;
  return out;
}

/// The first model that the server lists; empty when it lists none.
std::string first_model(const target& to) {
  auto answer = fetch(to, "GET", path_below(to.where, "/v1/models"));
  if (!answer || answer->status != 200)
    return {};
  boost::json::error_code error;
  auto value = boost::json::parse(answer->body, error);
  if (error || !value.is_object())
    return {};
  const auto* data = value.get_object().if_contains("data");
  if (!data || !data->is_array() || data->get_array().empty())
    return {};
  const auto& first = data->get_array().front();
  const auto* id = first.is_object() ? first.get_object().if_contains("id") : nullptr;
  return id && id->is_string() ? std::string{id->get_string()} : std::string{};
}

caf::expected<dialect_ptr> dialect_of(const options& o, const std::string& model) {
  dialect_settings s;
  s.model = model;
  s.stream = !o.no_stream;
  s.ignore_eos = !o.allow_eos;
  s.lmi = o.lmi_format == "json"  ? lmi_format::json
          : o.lmi_format == "sse" ? lmi_format::sse
                                  : lmi_format::jsonlines;
  s.task = o.task;
  s.mask_token = o.mask_token;
  s.temperature = o.temperature;
  if (!o.extra_body.empty()) {
    boost::json::error_code error;
    auto value = boost::json::parse(o.extra_body, error);
    if (error || !value.is_object())
      return bad("--extra-body \"" + o.extra_body + "\" is no JSON object");
    s.extra = value.get_object();
  }
  return make_dialect(o.dialect, std::move(s));
}

caf::expected<prompt_source_ptr> prompts_of(const options& o, const test_plan& plan,
                                            uint64_t seed) {
  auto input = parse_lengths(o.input_tokens);
  if (!input)
    return bad("--input-tokens: " + text_of(input.error()));
  auto output = parse_lengths(o.output_tokens);
  if (!output)
    return bad("--output-tokens: " + text_of(output.error()));
  if (!o.prompts.empty())
    return open_prompts(o.prompts, *output, seed);
  synthetic_settings s;
  s.input = *input;
  s.output = *output;
  s.shared_prefix = o.shared_prefix;
  s.prefix_groups = o.prefix_groups;
  s.trace = plan.run.plan.arrival.trace;
  s.seed = seed;
  s.chat = plan.run.speaks->is_chat();
  s.vocabulary = o.vocabulary > 0 ? o.vocabulary : default_vocabulary;
  s.as_ids = o.token_ids;
  if (s.as_ids)
    return make_synthetic(std::move(s), word_table::approximate());
  std::unique_ptr<token_counter> counter;
  if (!o.tokenizer.empty()) {
    auto opened = open_tokenizer(o.tokenizer);
    if (!opened)
      return bad("--tokenizer: " + text_of(opened.error()));
    counter = std::move(*opened);
  } else if (auto asked = ask_server(*plan.to, plan.what.model)) {
    counter = std::move(*asked);
  }
  if (counter) {
    auto words = word_table::learn(*counter, s.chat);
    if (words)
      return make_synthetic(std::move(s), std::move(*words));
    if (!o.tokenizer.empty())
      return bad("--tokenizer: " + text_of(words.error()));
  }
  // Ids are exact without a tokenizer, but they are safe only below a vocabulary one knows.
  if (plan.run.speaks->takes_ids() && o.vocabulary > 0)
    s.as_ids = true;
  return make_synthetic(std::move(s), word_table::approximate());
}

} // namespace

uint64_t seed_of_run(uint64_t seed, uint32_t run) {
  return run == 0 ? seed : mix(seed + run);
}

caf::expected<test_plan> prepare(const options& o) {
  if (auto e = check_together(o))
    return e;
  test_plan out;
  auto load = load_of(o);
  if (!load)
    return load.error();
  out.run.plan = load->plan;
  out.run.warm_up = load->warm_up;
  out.run.duration = load->duration;
  auto timeout = time_of("--timeout", o.timeout);
  if (!timeout)
    return timeout.error();
  out.run.timeout = *timeout;
  out.run.workers = o.workers;
  out.run.max_in_flight = o.max_in_flight;
  out.run.seed = o.seed;
  out.repeats = o.repeats;
  out.sweep_rate = o.sweep_rate;
  out.sweep_users = o.sweep_users;
  if (o.searches) {
    search_plan s;
    if (!o.search.empty()) {
      double low = 0, high = 0;
      char rest = 0;
      if (std::sscanf(o.search.c_str(), "%lf:%lf%c", &low, &high, &rest) != 2 || low <= 0 ||
          !(high > low) || !std::isfinite(high))
        return bad("--search \"" + o.search +
                   "\" is not allowed; allowed: LOW:HIGH as 1:50, or "
                   "nothing");
      s = {low, high};
    } else if (o.rate > 0) {
      s.low = o.rate;
    }
    out.search = s;
  }
  if (!o.slo.empty()) {
    auto goals = report::parse_objectives(o.slo);
    if (!goals)
      return bad("--slo: " + text_of(goals.error()));
    out.objectives = *goals;
  }
  out.behaviour = o.behaviour;
  if (!o.behaviour.empty()) {
    auto b = parse_behaviour(o.behaviour);
    if (!b)
      return b.error();
    out.run.odd = b->odd;
    out.run.odd_share = o.behaviour_share;
    if (b->storm > 0) {
      if (o.users > 0 || o.rate > 0 || !o.sweep_rate.empty() || !o.sweep_users.empty() ||
          o.searches)
        return bad("--behaviour storm:N is a load of its own: leave out --users, --rate, sweeps");
      out.run.odd_kept_apart = true;
      out.run.odd_share = 1;
      out.run.keep_alive = false;
      out.run.plan.users = b->storm;
      out.run.plan.requests = b->storm;
      out.run.plan.stop_at = out.run.duration = 0;
    }
  }
  // Everything that can be wrong with what was typed has been found before anything is started.
  if (o.with_mock) {
    auto settings = parse_mock(o.mock);
    if (!settings)
      return bad("--mock: " + text_of(settings.error()));
    auto mock = mock_server::start(*settings);
    if (!mock)
      return mock.error();
    out.mock = std::move(*mock);
  }
  auto found = find_target(o, out.mock.get());
  if (!found)
    return found.error();
  out.to = std::move(*found);
  out.run.to = out.to.get();
  auto model = o.model;
  if (model.empty() && o.dialect.starts_with("openai"))
    model = first_model(*out.to);
  auto speaks = dialect_of(o, model);
  if (!speaks)
    return speaks.error();
  out.run.speaks = *speaks;
  out.run.path = o.path.empty() ? path_below(out.to->where, (*speaks)->path()) : o.path;
  if (out.run.path.empty() || out.run.path.front() != '/' ||
      out.run.path.find_first_of(" \r\n\t") != std::string::npos)
    return bad("--path \"" + o.path + "\" is no path: it begins with / and holds no space");
  auto& what = out.what;
  what.url = out.mock ? "the built-in mock" : o.url;
  what.dialect = o.dialect;
  what.model = model;
  what.version = TROUPE_VERSION;
  what.seed = o.seed;
  what.settings = o.given;
  auto prompts = prompts_of(o, out, o.seed);
  if (!prompts)
    return prompts.error();
  out.run.prompts = *prompts;
  what.settings.emplace_back("prompts", (*prompts)->describe());
  if ((*prompts)->describe().find("approximate") != std::string::npos)
    out.notes.push_back(
        "prompt lengths are approximate, one word a token: nothing counts tokens here. Name the "
        "model's folder with --tokenizer, or send ids with --dialect openai --token-ids "
        "--vocabulary N");
  return out;
}

caf::expected<run_settings> settings_of(const test_plan& plan, const options& o, double rate,
                                        uint32_t users, uint32_t run) {
  auto out = plan.run;
  out.seed = seed_of_run(o.seed, run);
  out.plan.arrival.seed = out.seed;
  if (rate > 0) {
    out.plan.arrival.rate = rate;
    out.plan.users = 0;
  } else if (users > 0) {
    out.plan.users = users;
  } else if (out.plan.users == 0 && out.plan.arrival.kind != arrival_kind::trace) {
    out.plan.arrival.rate = o.rate;
    out.plan.users = o.rate > 0 ? 0 : o.users > 0 ? o.users : default_users;
  }
  // A thousand requests due at one moment cannot all be sent at that moment.
  if (o.ramp_up.empty() && !out.odd_kept_apart)
    out.plan.ramp_up = out.plan.users * user_stagger;
  if (run > 0) {
    auto prompts = prompts_of(o, plan, out.seed);
    if (!prompts)
      return prompts.error();
    out.prompts = *prompts;
  }
  return out;
}

} // namespace troupe::load_test
