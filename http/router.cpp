#include "troupe/http/router.hpp"

#include <charconv>
#include <type_traits>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/error.hpp"
#include "troupe/http/dialects/csv.hpp"
#include "troupe/http/dialects/lmi.hpp"
#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/dialects/openai_completions.hpp"
#include "troupe/http/dialects/pipeline.hpp"
#include "troupe/http/dialects/tgi.hpp"
#include "troupe/http/dialects/tokenize.hpp"
#include "troupe/http/json/write.hpp"
#include "troupe/http/route_table.hpp"
#include "troupe/http/status_views.hpp"

namespace troupe::http {

namespace {

using path_parts = std::vector<std::string_view>;

path_parts split(std::string_view path) {
  path_parts out;
  while (!path.empty()) {
    path.remove_prefix(1); // The slash.
    auto part = path.substr(0, path.find('/'));
    path.remove_prefix(part.size());
    if (!part.empty() || !path.empty())
      out.push_back(part);
  }
  return out;
}

reply wrong_method(error_style style) {
  constexpr std::string_view text =
      "Requested method is not allowed, please refer to API document.";
  return refusal(style, 405, "method_not_allowed", "MethodNotAllowedException", text);
}

/// An inference request's body as a JSON value, and what forms say beside it.
struct payload {
  json::value body;
  std::string model{};     ///< Form part model_name.
  std::string list_type{}; ///< Set: a type whose body is a list of inputs.
};

json::value with_inputs(json::value inputs) {
  json::object out;
  out.emplace_back("inputs", std::move(inputs));
  return json::value{std::move(out)};
}

std::variant<payload, problem> read_form(std::string_view type, std::string_view body) {
  auto parts = parse_form(type, body);
  if (!parts)
    return problem{"", "the form in the body is malformed"};
  payload out;
  const form_part* data = nullptr;
  for (const auto& part : *parts) {
    if (part.name == "model_name")
      out.model = part.content;
    else if (part.name == "data" || !data)
      data = &part;
  }
  out.body = with_inputs(json::value{data ? data->content : std::string{}});
  return out;
}

/// Contract http.md §4.2.
/// @param json_only OpenAI's and TGI's routes.
std::variant<payload, problem> read_payload(const request& r, bool json_only) {
  auto* given = r.header("content-type");
  auto type = given ? lower(*given) : std::string{};
  auto json = type.empty() || type.find("json") != std::string::npos;
  if (json && r.body.empty() && !json_only)
    return payload{with_inputs(json::value{std::string{}})};
  if (json) {
    auto parsed = json::parse(r.body);
    if (!parsed)
      return problem{"", text_of(parsed.error())};
    return payload{std::move(*parsed)};
  }
  if (json_only)
    return problem{"", "send the body as JSON with Content-Type: application/json, not " + type};
  if (type.find("text/plain") != std::string::npos)
    return payload{.body = with_inputs(json::array{json::value{json::valid_utf8(r.body)}}),
                   .list_type = "text/plain"};
  if (type.find("text/csv") != std::string::npos) {
    auto inputs = read_csv(r.body);
    if (auto* why = std::get_if<problem>(&inputs))
      return std::move(*why);
    return payload{.body = with_inputs(std::move(std::get<json::value>(inputs))),
                   .list_type = "text/csv"};
  }
  if (type.find("multipart/form-data") != std::string::npos ||
      type.find("x-www-form-urlencoded") != std::string::npos)
    return read_form(*given, r.body);
  return payload{with_inputs(json::value{json::valid_utf8(r.body)})};
}

/// A query parameter, or a header of that name.
std::string named_outside(const request& r, std::string_view name) {
  if (auto* given = r.query_value(name); given && !given->empty())
    return *given;
  auto* given = r.header(name);
  return given ? *given : std::string{};
}

/// Which model a request is for, and how that one answers.
struct addressee {
  std::string model; ///< Empty: the engine finds out.
  std::string version;
  std::shared_ptr<const dialect_settings> dialect; ///< Null: the server's.
  bool version_asked = false;                      ///< By the request, rather than in turn.
};

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
  out.version_asked = !out.version.empty();
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

using parser = parsed_job (*)(const json::value&, const job_context&);

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

/// @param parse Null: chosen by the body.
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
  if (auto* why = std::get_if<problem>(&content))
    return refused(*why);
  auto& given = std::get<payload>(content);
  auto to = find_addressee(state, r, by_path, given, style == error_style::openai);
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
    one.version_binding = to.version_asked;
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

/// POST /tokenize, /detokenize.
template <class Request>
routed ask(const front_state& state, const request& r,
           std::variant<Request, problem> (*parse)(const json::value&, const job_context&)) {
  auto content = read_payload(r, true);
  if (auto* why = std::get_if<problem>(&content))
    return problem_reply(error_style::openai, *why);
  auto& given = std::get<payload>(content);
  auto to = find_addressee(state, r, {}, given, true);
  auto context = read_context(state, r, to, error_style::openai);
  if (auto* refusal = std::get_if<reply>(&context))
    return std::move(*refusal);
  auto parsed = parse(given.body, std::get<job_context>(context));
  if (auto* why = std::get_if<problem>(&parsed))
    return problem_reply(error_style::openai, *why);
  std::get<Request>(parsed).version = to.version;
  return engine_query{.what = std::move(std::get<Request>(parsed)), .errors = error_style::openai};
}

routed show_metrics(const front_state& state, const request& r) {
  if (r.method != "GET" && r.method != "HEAD")
    return wrong_method(error_style::lmi);
  if (!state.settings.metrics_enabled)
    return lmi_error(400, "BadRequestException",
                     "Prometheus is not enabled, set SERVING_PROMETHEUS to true to enable it.");
  std::vector<std::string> only;
  for (const auto& [name, content] : r.query)
    if (name == "name[]")
      only.push_back(content);
  if (state.settings.ask_device_memory)
    return engine_query{.what = metrics_query{std::move(only)}};
  return metrics_reply(state, {}, only);
}

routed show_description(const front_state& state, const request& r) {
  if (r.method != "GET" && r.method != "HEAD")
    return wrong_method(error_style::lmi);
  reply out;
  out.body = openapi_document(state.settings.version);
  return out;
}

routed v1_routes(const front_state& state, const request& r, const path_parts& at) {
  if (at.size() == 3 && at[1] == "chat" && at[2] == "completions")
    return generate(state, r, {}, error_style::openai, parse_chat);
  if (at.size() == 2 && at[1] == "completions")
    return generate(state, r, {}, error_style::openai, parse_completions);
  if (at.size() >= 2 && at[1] == "models") {
    if (r.method != "GET" && r.method != "HEAD")
      return wrong_method(error_style::openai);
    // A model's name may hold slashes.
    auto name = r.path.size() > 11 ? r.path.substr(11) : std::string{};
    return engine_query{.what = models_view(std::move(name)), .errors = error_style::openai};
  }
  return unknown_route(error_style::openai);
}

/// The routes of TGI; nullopt when the path is none of them.
std::optional<routed> tgi_routes(const front_state& state, const request& r) {
  auto read = r.method == "GET" || r.method == "HEAD";
  if (r.path == "/health" || r.path == "/info") {
    if (!read)
      return wrong_method(error_style::tgi);
    if (r.path == "/health" && state.draining.load(std::memory_order_relaxed))
      return unhealthy_reply();
    auto* name = r.query_value("model_name");
    return engine_query{.what = r.path == "/health"
                                    ? health_view()
                                    : info_view(name ? *name : "", state.settings.version),
                        .errors = error_style::tgi};
  }
  auto parse = r.path == "/generate"          ? parse_tgi_generate
               : r.path == "/generate_stream" ? parse_tgi_stream
               : r.path == "/" && !read       ? parse_tgi_compat
                                              : nullptr;
  if (!parse)
    return std::nullopt;
  if (r.method != "POST")
    return wrong_method(error_style::tgi);
  return generate(state, r, {}, error_style::tgi, parse);
}

/// The model that an inference path names; nullopt when the path is no inference route.
std::optional<addressee> inference_model(const path_parts& at) {
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

bool is_management(const path_parts& at) {
  return !at.empty() && (at[0] == "models" || at[0] == "workflows") && !inference_model(at);
}

routed manage(const front_state& state, const request& r, const path_parts& at) {
  auto call = read_management(r, at);
  if (auto* answer = std::get_if<reply>(&call))
    return std::move(*answer);
  if (std::holds_alternative<registration_request>(call) && !state.source)
    return lmi_error(400, "BadRequestException",
                     "This server loads no further models: its host application does.");
  engine_query out;
  std::visit(
      [&](auto& what) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(what)>, reply>)
          out.what = std::move(what);
      },
      call);
  return out;
}

/// POST /server/logging?level=LEVEL.
routed set_logging(const request& r) {
  if (r.method != "POST")
    return wrong_method(error_style::lmi);
  auto* given = r.query_value("level");
  auto level = telemetry::log_level_of(given ? lower(*given) : "info");
  if (!level)
    return lmi_error(400, "BadRequestException",
                     "level must be trace, debug, info, warn, error, fatal or off, not \"" +
                         *given + "\"");
  telemetry::set_log_level(*level);
  return status_reply("OK");
}

routed options(const path_parts& at) {
  auto model = inference_model(at);
  if (model && !model->model.empty())
    return engine_query{.what = options_view(model->model)};
  reply out;
  out.body = "{}";
  return out;
}

} // namespace

std::string new_id() {
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "xxxxxxxx-xxxx-4xxx-Nxxx-xxxxxxxxxxxx";
  uint64_t bits = 0;
  int left = 0;
  for (auto& c : out) {
    if (c != 'x' && c != 'N')
      continue;
    if (left == 0) {
      bits = fresh_seed();
      left = 16;
    }
    c = c == 'x' ? hex[bits & 15] : hex[8 + (bits & 3)];
    bits >>= 4;
    --left;
  }
  return out;
}

error_style style_of(std::string_view path) {
  return path.starts_with("/v1/") || path == "/tokenize" || path == "/detokenize"
             ? error_style::openai
         : path == "/" || path == "/generate" || path == "/generate_stream" || path == "/info" ||
                 path == "/health"
             ? error_style::tgi
             : error_style::lmi;
}

void admit(const server_settings& settings, request& r) {
  if (auto* attributes = r.header("x-amzn-sagemaker-custom-attributes")) {
    auto text = *attributes; // Unpacking grows the vector that it points into.
    unpack_attributes(text, r);
  }
  auto* given = r.header(lower(settings.request_id_header));
  constexpr size_t longest_id = 256;
  r.id = given && !given->empty() && given->size() <= longest_id ? *given : new_id();
}

std::optional<reply> check_key(const front_state& state, request& r) {
  // A browser asks for its permissions without a key.
  auto* to = find_route(r.path);
  if (state.keys.empty() || r.method == "OPTIONS" || !to || to->who == access::open)
    return std::nullopt;
  constexpr std::string_view scheme = "bearer ";
  auto* bearer = r.header("authorization");
  auto* plain = r.header("x-api-key");
  if (bearer && lower(bearer->substr(0, scheme.size())) == scheme)
    r.key = state.keys.find(std::string_view{*bearer}.substr(scheme.size()));
  if (!r.key && plain)
    r.key = state.keys.find(*plain);
  if (r.key)
    return std::nullopt;
  return unauthorized_reply(style_of(r.path), bearer || plain);
}

routed route(const front_state& state, request& r, listener_role role) {
  auto at = split(r.path);
  auto style = style_of(r.path);
  if (!find_route(r.path))
    return unknown_route(style);
  if (auto refused = check_key(state, r))
    return std::move(*refused);
  if (r.header("handler") && !state.settings.allow_request_handler)
    return lmi_error(400, "BadRequestException", "The handler can't be overridden in a request");
  if (r.method == "OPTIONS")
    return options(at);
  if (r.path == "/metrics" || r.path == "/server/metrics")
    return show_metrics(state, r);
  const bool management = is_management(at) || r.path == "/server/logging";
  if (role != listener_role::everything && management != (role == listener_role::management))
    return unknown_route(style);
  if (management)
    return r.path == "/server/logging" ? set_logging(r) : manage(state, r, at);
  if (r.path == "/ping")
    return state.draining.load(std::memory_order_relaxed)
               ? routed{draining_reply()}
               : routed{engine_query{.what = ping_view({state.settings.allow_multi_status,
                                                        state.settings.fail_ping_when_unhealthy,
                                                        state.failures.exceeded()})}};
  if (r.path == "/openapi.json")
    return show_description(state, r);
  if (auto model = inference_model(at))
    return generate(state, r, *model, error_style::lmi, nullptr);
  if (!at.empty() && at[0] == "v1")
    return v1_routes(state, r, at);
  if (auto answer = tgi_routes(state, r))
    return std::move(*answer);
  if (r.path == "/tokenize")
    return ask(state, r, parse_tokenize);
  if (r.path == "/detokenize")
    return ask(state, r, parse_detokenize);
  return unknown_route(style);
}

} // namespace troupe::http
