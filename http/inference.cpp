#include "troupe/http/inference.hpp"

#include <charconv>

#include "troupe/config/error.hpp"
#include "troupe/http/dialects/lmi.hpp"
#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/dialects/openai_completions.hpp"
#include "troupe/http/dialects/pipeline.hpp"
#include "troupe/http/dialects/tokenize.hpp"
#include "troupe/http/payload.hpp"

namespace troupe::http {

namespace {

/// A query parameter, or a header of that name.
std::string named_outside(const request& r, std::string_view name) {
  if (auto* given = r.query_value(name); given && !given->empty())
    return *given;
  auto* given = r.header(name);
  return given ? *given : std::string{};
}

/// Contract http.md §4.1; the body's "model" selects on OpenAI's routes only.
addressee find_addressee(const front_state& state, const request& r, const addressee& by_path,
                         const payload& given, bool v1_route) {
  auto out = by_path;
  if (out.model.empty())
    out.model = named_outside(r, "model_name");
  if (out.model.empty())
    out.model = given.model;
  if (out.version.empty())
    out.version = named_outside(r, "model_version");
  const bool in_turn = out.version.empty();
  auto wanted = out.model;
  if (auto* name = given.body.find("model");
      v1_route && wanted.empty() && name && name->as_string())
    // Placeholders, as clients of a single model send them, mean none unless a model is called so.
    wanted = state.models.knows(*name->as_string())
                 ? *name->as_string()
                 : named_model({.settings = state.settings.dialect, .v1_route = true},
                               *name->as_string());
  auto chosen = state.models.choose(wanted, out.version);
  if (!chosen)
    return out; // The engine says what is wrong with it.
  out.model = chosen->name;
  out.version = chosen->version;
  out.dialect = chosen->dialect;
  using phase = catalogued_model::phase;
  out.known = true;
  out.absent =
      chosen->state == phase::preparing || (chosen->state == phase::failed && !out.dialect);
  // Whoever serves it must answer in the manner in which the body is read.
  out.binding = in_turn && state.models.alike(chosen->name) ? version_binding::preferred
                                                            : version_binding::exact;
  return out;
}

/// What the request says about itself outside its body.
std::variant<job_context, reply> read_context(const front_state& state, const request& r,
                                              const addressee& to, error_style style) {
  job_context out{.settings = to.dialect ? *to.dialect : state.settings.dialect,
                  .id = r.id,
                  .model = to.model,
                  .version = to.version};
  out.v1_route = style == error_style::openai;
  out.server = "troupe-" + state.settings.version;
  if (auto* priority = r.header("x-priority")) {
    auto [end, error] =
        std::from_chars(priority->data(), priority->data() + priority->size(), out.priority);
    if (error != std::errc{} || end != priority->data() + priority->size()) {
      auto status = style == error_style::lmi ? state.settings.dialect.bad_request_status : 400;
      return refusal(style, status, "invalid_request", "BadRequestException",
                     "x-priority must be an integer", "x-priority");
    }
  }
  if (auto* accept = r.header("accept")) {
    const auto types = lower(*accept);
    out.accepts_sse = types.find("text/event-stream") != std::string::npos;
    out.accepts_csv =
        types.find("text/csv") != std::string::npos && types.find("*/*") == std::string::npos;
  }
  return out;
}

/// "messages" makes a chat of any inference request, "prompt" without "inputs" a completion.
parser choose_parser(const json::value& body, bool pipeline) {
  if (body.find("messages"))
    return parse_chat;
  if (pipeline)
    return parse_pipeline;
  return body.find("prompt") && !body.find("inputs") ? parse_completions : parse_lmi;
}

/// What comes before any look at the body: answers that are there already, and the key's allowance.
std::optional<reply> answer_early(const front_state& state, const request& r, error_style style) {
  if (auto* token = r.header("x-starting-token")) {
    auto* most = r.header("x-max-items");
    return state.results.poll(*token, most ? *most : std::string_view{}, r.key);
  }
  if (r.key)
    if (auto wait = state.keys.spend(*r.key); wait.count() > 0)
      return too_many_reply(style, wait);
  return std::nullopt;
}

caf::error not_here(const addressee& to) {
  return caf::make_error(ec::model_not_ready,
                         "Model is not ready: " + label_of(to.model, to.version) +
                             " (its status tells why)");
}

/// An unknown model is loaded where the server's owner allows its URL (model_url_pattern).
std::optional<routed> load_unknown(const front_state& state, const request& r, const addressee& to,
                                   const payload& given) {
  if (!state.loadable || to.known || to.model.empty() || !state.source)
    return std::nullopt;
  auto refused = [](std::string_view text) {
    return lmi_error(404, "ModelNotFoundException", text);
  };
  auto url = named_outside(r, "model_url");
  if (url.empty())
    url = given.model_url;
  if (url.empty())
    return refused("Parameter model_url is required.");
  if (!state.loadable->matches(url))
    return refused("Permission denied: " + url);
  load_first out;
  auto& wanted = out.load.wanted;
  wanted.url = std::move(url);
  wanted.name = to.model;
  wanted.version = to.version;
  wanted.engine = named_outside(r, "engine_name");
  wanted.devices = named_outside(r, "device");
  out.then = r;
  return out;
}

template <class Request>
routed ask(const front_state& state, const request& r,
           std::variant<Request, problem> (*parse)(const json::value&, const job_context&)) {
  auto content = read_payload(r, true);
  if (auto* why = std::get_if<problem>(&content))
    return problem_reply(error_style::openai, *why);
  auto& given = std::get<payload>(content);
  auto to = find_addressee(state, r, {}, given, true);
  if (to.absent)
    return error_reply(error_style::openai, state.settings.dialect, to.model, not_here(to));
  auto context = read_context(state, r, to, error_style::openai);
  if (auto* refusal = std::get_if<reply>(&context))
    return std::move(*refusal);
  auto parsed = parse(given.body, std::get<job_context>(context));
  if (auto* why = std::get_if<problem>(&parsed))
    return problem_reply(error_style::openai, *why);
  std::get<Request>(parsed).version = to.version;
  return engine_query{.what = std::move(std::get<Request>(parsed)), .errors = error_style::openai};
}

} // namespace

std::optional<addressee> inference_model(const std::vector<std::string_view>& at) {
  auto named = [&](std::string_view version) {
    return addressee{std::string{at[1]}, std::string{version}, nullptr};
  };
  if (at.size() == 1 && at[0] == "invocations")
    return addressee{};
  if (at.size() == 2 && at[0] == "predictions")
    return named({});
  if (at.size() == 3 && at[0] == "predictions")
    return named(at[2]);
  if (at.size() == 3 && at[0] == "models" && at[2] == "invoke")
    return named({});
  return std::nullopt;
}

routed generate(const front_state& state, const request& r, const addressee& by_path,
                error_style style, parser parse) {
  auto refused = [&](const problem& why) {
    auto out = problem_reply(style, why);
    out.inference = true;
    return out;
  };
  if (auto answer = answer_early(state, r, style))
    return std::move(*answer);
  auto content = read_payload(r, style != error_style::lmi);
  if (auto* why = std::get_if<problem>(&content)) {
    // Whose error it is to be, what is outside of the body still tells.
    if (style == error_style::lmi)
      if (auto to = find_addressee(state, r, by_path, {}, false);
          to.dialect && to.dialect->pipeline)
        style = error_style::pipeline;
    return refused(*why);
  }
  auto& given = std::get<payload>(content);
  auto to = find_addressee(state, r, by_path, given, style == error_style::openai);
  if (to.absent)
    return error_reply(style, state.settings.dialect, to.model, not_here(to));
  if (style == error_style::lmi)
    if (auto other = load_unknown(state, r, to, given))
      return std::move(*other);
  auto context = read_context(state, r, to, style);
  if (auto* refusal = std::get_if<reply>(&context))
    return std::move(*refusal);
  auto& about = std::get<job_context>(context);
  const bool pipeline = style == error_style::lmi && about.settings.pipeline;
  if (pipeline)
    style = error_style::pipeline;
  else if (!given.list_type.empty())
    return refused(
        {"inputs", "inputs must be a string: a " + given.list_type + " body is a list of them"});
  if (pipeline && given.body.find("messages") && about.settings.call_batch > 1)
    return refused({"messages", "a chat needs rolling batch, or batch_size=1 without it"});
  auto job = (parse ? parse : choose_parser(given.body, pipeline))(given.body, about);
  if (auto* why = std::get_if<problem>(&job))
    return refused(*why);
  auto& out = std::get<generation_job>(job);
  out.errors = style;
  out.settings = std::move(to.dialect);
  for (auto& one : out.requests)
    one.binding = to.binding;
  out.key = r.key;
  if (auto* wait = r.header("x-synchronous"))
    out.asynchronous = lower(*wait) == "false";
  auto* trace = r.header("traceparent");
  for (auto& one : out.requests) {
    if (r.key)
      one.turn = state.keys.next_turn(*r.key);
    if (trace)
      one.traceparent = *trace;
  }
  return std::move(out);
}

routed tokenize(const front_state& state, const request& r) {
  return ask(state, r, parse_tokenize);
}

routed detokenize(const front_state& state, const request& r) {
  return ask(state, r, parse_detokenize);
}

} // namespace troupe::http
