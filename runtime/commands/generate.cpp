#include "troupe/runtime/commands.hpp"

#include <charconv>
#include <cstdio>
#include <future>
#include <random>
#include <thread>

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <caf/all.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/host.hpp"
#include "troupe/runtime/preparation.hpp"
#include "troupe/runtime/process.hpp"

namespace troupe::runtime {

namespace {

using namespace std::chrono_literals;

struct arguments {
  std::string path;
  std::string prompt;
  std::string system;
  bool chat = false;
  int64_t max_new_tokens = 256;
  double temperature = 0;
  double top_p = 1;
  int top_k = 0;
  std::string seed;
  std::vector<std::string> stop;
  bool dummy = false;
  bool quiet = false;
};

std::string chat_of(const arguments& given) {
  auto quoted = [](const std::string& text) {
    return boost::json::serialize(boost::json::string{text});
  };
  std::string messages;
  if (!given.system.empty())
    messages = R"({"role":"system","content":)" + quoted(given.system) + "},";
  return R"({"messages":[)" + messages + R"({"role":"user","content":)" + quoted(given.prompt) +
         "}]}";
}

caf::expected<generation_request> request_of(const arguments& given) {
  if (given.prompt.empty())
    return caf::make_error(
        ec::invalid_request,
        std::string{"the prompt is empty: give one with --prompt, or - to read it "
                    "from standard input"});
  generation_request request;
  request.id = "terminal";
  request.input.kind = given.chat ? prompt_kind::chat : prompt_kind::text;
  request.input.text = given.chat ? chat_of(given) : given.prompt;
  request.params.max_new_tokens = given.max_new_tokens;
  request.params.stop = given.stop;
  request.params.stream = true;
  auto& sampling = request.params.sampling;
  sampling.sample = given.temperature > 0;
  sampling.temperature = given.temperature > 0 ? static_cast<float>(given.temperature) : 1.0f;
  sampling.top_p = static_cast<float>(given.top_p);
  sampling.top_k = given.top_k;
  sampling.seed =
      given.seed.empty() ? std::random_device{}() : std::strtoull(given.seed.c_str(), nullptr, 10);
  return request;
}

/// What is wrong with a seed, for CLI11; its own numbers wrap and saturate silently.
std::string check_seed(const std::string& text) {
  uint64_t seed = 0;
  auto end = text.data() + text.size();
  auto read = std::from_chars(text.data(), end, seed);
  return read.ec == std::errc{} && read.ptr == end ? ""
                                                   : "must be a whole number from 0 to 2^64 - 1";
}

struct outcome {
  caf::error failure;
  uint32_t prompt_tokens = 0;
  uint32_t generated_tokens = 0;
  std::chrono::steady_clock::time_point first;
};

/// Prints what a request produces; fulfils the promise when nothing follows.
struct printer_state {
  outcome seen;
  bool unread = false; ///< Standard output is closed, and the request has been cancelled for it.
  std::shared_ptr<std::promise<outcome>> result;
};

event_sink::behavior_type printer(event_sink::stateful_pointer<printer_state> self,
                                  std::shared_ptr<std::promise<outcome>> result) {
  self->state.result = std::move(result);
  return {[self](event_batch& events) {
    auto& seen = self->state.seen;
    for (const auto& p : events.prompt)
      seen.prompt_tokens = p.token_count;
    for (const auto& event : events.tokens) {
      if (seen.generated_tokens++ == 0)
        seen.first = std::chrono::steady_clock::now();
      std::fwrite(event.token.text.data(), 1, event.token.text.size(), stdout);
    }
    for (const auto& end : events.ends)
      std::fwrite(end.tail.data(), 1, end.tail.size(), stdout);
    // Nobody reads on, as after `| head`: what would still be computed is for nobody.
    if (std::fflush(stdout) != 0 && !self->state.unread) {
      self->state.unread = true;
      self->send(caf::actor_cast<request_actor>(self->current_sender()), cancel_atom_v);
    }
    if (events.complete || events.failure) {
      seen.failure = self->state.unread ? caf::error{} : events.failure;
      self->state.result->set_value(seen);
      return self->quit();
    }
    self->send(caf::actor_cast<request_actor>(self->current_sender()), credit_atom_v,
               events.weight);
  }};
}

int generate(arguments given, const typed_settings& typed) {
  if (given.prompt == "-") {
    given.prompt.clear();
    char part[4096];
    for (size_t n; (n = std::fread(part, 1, sizeof part, stdin)) > 0;)
      given.prompt.append(part, n);
  }
  auto request = request_of(given);
  if (!request)
    return fail(request.error());
  auto from = sources_of(typed);
  if (!from)
    return fail(from.error());
  auto server = config::resolve_server(*from);
  if (!server)
    return fail(server.error());
  auto model = given.dummy ? prepare_dummy(*from, server->values)
                           : prepare_one(given.path, *from, server->values);
  if (!model)
    return fail(model.error());
  telemetry::configure_log({.level = telemetry::log_level::error});

  host running{server->values};
  auto spec = model->spec;
  spec.load.max_sequences = 1;
  spec.registered.gpu_min_workers = 0; // One copy is enough for one request.
  auto ready = running.load(spec);
  if (!ready)
    return fail(ready.error());

  auto promise = std::make_shared<std::promise<outcome>>();
  auto result = promise->get_future();
  auto sink = running.system().spawn(printer, promise);
  auto begin = std::chrono::steady_clock::now();
  caf::error refused;
  caf::scoped_actor self{running.system()};
  request_actor handle;
  self->request(running.engine(), caf::infinite, submit_atom_v, *request, sink)
      .receive([&](const request_actor& accepted) { handle = accepted; },
               [&](caf::error& reason) { refused = std::move(reason); });
  if (refused) {
    caf::anon_send_exit(sink, caf::exit_reason::user_shutdown);
    return fail(refused);
  }
  sink = nullptr;
  bool stopped = false;
  while (result.wait_for(0s) != std::future_status::ready)
    if (wait_signal(10ms)) {
      if (stopped)
        return 130;
      stopped = true;
      self->send(handle, cancel_atom_v);
    }
  auto seen = result.get();
  std::printf("\n");
  if (seen.failure && !stopped)
    return fail(seen.failure);
  if (!given.quiet && seen.generated_tokens > 0) {
    std::chrono::duration<double> first = seen.first - begin;
    std::chrono::duration<double> rest = std::chrono::steady_clock::now() - seen.first;
    std::fprintf(stderr, "%u prompt tokens in %.2f s, %u new tokens", seen.prompt_tokens,
                 first.count(), seen.generated_tokens);
    if (seen.generated_tokens > 1 && rest.count() > 0)
      std::fprintf(stderr, " at %.1f tokens/s", (seen.generated_tokens - 1) / rest.count());
    std::fprintf(stderr, "\n");
  }
  return stopped ? 130 : 0;
}

} // namespace

void add_generate(CLI::App& app, command& chosen) {
  auto* sub = app.add_subcommand("generate", "Answers one prompt in the terminal, streamed");
  auto given = std::make_shared<arguments>();
  sub->add_option("path", given->path, "Model folder; HF_MODEL_ID when left out")
      ->type_name("PATH");
  sub->add_option("-p,--prompt", given->prompt, "The prompt; - reads it from standard input");
  sub->add_flag("--chat", given->chat,
                "Renders the prompt as a user's message with the chat template");
  sub->add_option("--system", given->system, "System message in front of it, with --chat");
  sub->add_option("-n,--max-new-tokens", given->max_new_tokens, "Most tokens to generate")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--temperature", given->temperature,
                  "Above 0 samples; 0 takes the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  sub->add_option("--top-p", given->top_p, "Samples from the smallest set of this probability")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  sub->add_option("--top-k", given->top_k, "Samples from so many likeliest tokens; 0 = off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_option("--seed", given->seed, "Repeats a sampled answer")->check(check_seed);
  sub->add_option("--stop", given->stop, "Text at which the answer ends; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  sub->add_flag("--dummy-model", given->dummy, "A model without weights, for trying things out");
  sub->add_flag("-q,--quiet", given->quiet, "Prints the answer only, no figures");
  auto typed = add_setting_flags(*sub);
  sub->callback([=, &chosen] { chosen = [=] { return generate(*given, *typed); }; });
}

} // namespace troupe::runtime
