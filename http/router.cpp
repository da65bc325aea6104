#include "troupe/http/router.hpp"

#include <charconv>

#include "troupe/config/error.hpp"
#include "troupe/http/dialects/csv.hpp"
#include "troupe/http/dialects/lmi.hpp"
#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/dialects/openai_completions.hpp"
#include "troupe/http/dialects/pipeline.hpp"
#include "troupe/http/dialects/tokenize.hpp"
#include "troupe/http/json/write.hpp"
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

std::string uuid() {
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

reply wrong_method(error_style style) {
  constexpr std::string_view text =
      "Requested method is not allowed, please refer to API document.";
  return style == error_style::openai ? openai_error(405, "method_not_allowed", text)
                                      : lmi_error(405, "MethodNotAllowedException", text);
}

/// An inference request's body as a JSON value, and what forms say beside it.
struct payload {
  json::value body;
  std::string model; ///< Form part model_name.
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

/// Contract http.md §4.2. Text generation takes one string, so what becomes a list is refused here.
std::variant<payload, problem> read_payload(const request& r, bool v1_route,
                                            bool pipeline = false) {
  auto* given = r.header("content-type");
  auto type = given ? lower(*given) : std::string{};
  auto json = type.empty() || type.find("json") != std::string::npos;
  if (json && r.body.empty() && !v1_route)
    return payload{with_inputs(json::value{std::string{}}), {}};
  if (json) {
    auto parsed = json::parse(r.body);
    if (!parsed)
      return problem{"", text_of(parsed.error())};
    return payload{std::move(*parsed), {}};
  }
  if (v1_route)
    return problem{"", "send the body as JSON with Content-Type: application/json, not " + type};
  if (pipeline && type.find("text/csv") != std::string::npos) {
    auto inputs = read_csv(r.body);
    if (auto* why = std::get_if<problem>(&inputs))
      return std::move(*why);
    return payload{with_inputs(std::move(std::get<json::value>(inputs))), {}};
  }
  if (pipeline && type.find("text/plain") != std::string::npos)
    return payload{with_inputs(json::array{json::value{json::valid_utf8(r.body)}}), {}};
  if (type.find("text/csv") != std::string::npos || type.find("text/plain") != std::string::npos)
    return problem{"inputs", "inputs must be a string: a " + type.substr(0, type.find(';')) +
                                 " body is a list of them"};
  if (type.find("multipart/form-data") != std::string::npos ||
      type.find("x-www-form-urlencoded") != std::string::npos)
    return read_form(*given, r.body);
  return payload{with_inputs(json::value{json::valid_utf8(r.body)}), {}};
}

/// What the request says about itself outside its body.
std::variant<job_context, reply> read_context(const front_state& state, const request& r,
                                              std::string_view model, bool v1_route) {
  auto style = v1_route ? error_style::openai : error_style::lmi;
  job_context out{.settings = state.settings.dialect, .id = r.id, .model = std::string{model}};
  out.v1_route = v1_route;
  if (out.model.empty())
    if (auto* name = r.query_value("model_name"))
      out.model = *name;
  if (out.model.empty())
    if (auto* name = r.header("model_name"))
      out.model = *name;
  if (auto* priority = r.header("x-priority")) {
    auto [end, error] =
        std::from_chars(priority->data(), priority->data() + priority->size(), out.priority);
    if (error != std::errc{} || end != priority->data() + priority->size()) {
      constexpr std::string_view text = "x-priority must be an integer";
      return style == error_style::openai ? openai_error(400, "invalid_request", text, "x-priority")
                                          : lmi_error(state.settings.dialect.bad_request_status,
                                                      "BadRequestException", text);
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

/// @param parse Null: chosen by the body.
routed generate(const front_state& state, const request& r, std::string_view model, bool v1_route,
                parser parse) {
  const bool pipeline = state.settings.dialect.pipeline;
  auto style = v1_route ? error_style::openai : pipeline ? error_style::pipeline : error_style::lmi;
  auto refused = [&](const problem& why) {
    auto out = problem_reply(style, why);
    out.inference = true;
    return out;
  };
  auto context = read_context(state, r, model, v1_route);
  if (auto* refusal = std::get_if<reply>(&context))
    return std::move(*refusal);
  auto& about = std::get<job_context>(context);
  auto content = read_payload(r, v1_route, pipeline);
  if (auto* why = std::get_if<problem>(&content))
    return refused(*why);
  auto& given = std::get<payload>(content);
  if (about.model.empty())
    about.model = given.model;
  if (pipeline && !v1_route && given.body.find("messages") && state.settings.dialect.call_batch > 1)
    return refused({"messages", "a chat needs rolling batch, or batch_size=1 without it"});
  auto job = (parse ? parse : choose_parser(given.body, pipeline))(given.body, about);
  if (auto* why = std::get_if<problem>(&job))
    return refused(*why);
  auto& out = std::get<generation_job>(job);
  out.errors = style;
  return std::move(out);
}

/// POST /tokenize, /detokenize.
template <class Request>
routed ask(const front_state& state, const request& r,
           std::variant<Request, problem> (*parse)(const json::value&, const job_context&)) {
  auto context = read_context(state, r, {}, true);
  if (auto* refusal = std::get_if<reply>(&context))
    return std::move(*refusal);
  auto content = read_payload(r, true);
  if (auto* why = std::get_if<problem>(&content))
    return problem_reply(error_style::openai, *why);
  auto& body = std::get<payload>(content).body;
  auto parsed = parse(body, std::get<job_context>(context));
  if (auto* why = std::get_if<problem>(&parsed))
    return problem_reply(error_style::openai, *why);
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
  auto families = front_families(state.counters, state.facts);
  if (state.metrics) {
    auto engine = state.metrics->snapshot();
    auto derived = derived_families(engine);
    for (auto* list : {&derived, &engine})
      families.insert(families.end(), std::make_move_iterator(list->begin()),
                      std::make_move_iterator(list->end()));
  }
  reply out;
  out.content_type = "text/plain; version=0.0.4; charset=utf-8";
  out.body = prometheus_text(families, only);
  return out;
}

routed v1_routes(const front_state& state, const request& r, const path_parts& at) {
  if (at.size() == 3 && at[1] == "chat" && at[2] == "completions")
    return generate(state, r, {}, true, parse_chat);
  if (at.size() == 2 && at[1] == "completions")
    return generate(state, r, {}, true, parse_completions);
  if (at.size() >= 2 && at[1] == "models") {
    if (r.method != "GET" && r.method != "HEAD")
      return wrong_method(error_style::openai);
    // A model's name may hold slashes.
    auto name = r.path.size() > 11 ? r.path.substr(11) : std::string{};
    return engine_query{.what = models_view(std::move(name)), .errors = error_style::openai};
  }
  return unknown_route(error_style::openai);
}

/// The model that an inference path names; nullopt when the path is no inference route.
std::optional<std::string_view> inference_model(const path_parts& at) {
  if (at.size() == 1 && at[0] == "invocations")
    return std::string_view{};
  if (at.size() == 2 && at[0] == "predictions")
    return at[1];
  if (at.size() == 3 && at[0] == "models" && at[2] == "invoke")
    return at[1];
  return std::nullopt;
}

routed options(const request& r, const path_parts& at) {
  auto model = inference_model(at);
  if (model && !model->empty())
    return engine_query{.what = options_view(std::string{*model})};
  auto known = at.empty() || model || at[0] == "v1" || r.path == "/ping" || r.path == "/tokenize" ||
               r.path == "/detokenize" || r.path == "/metrics" || r.path == "/server/metrics";
  if (!known)
    return unknown_route(error_style::lmi);
  reply out;
  out.body = "{}";
  return out;
}

} // namespace

error_style style_of(std::string_view path) {
  return path.starts_with("/v1/") || path == "/tokenize" || path == "/detokenize"
             ? error_style::openai
             : error_style::lmi;
}

void admit(const server_settings& settings, request& r) {
  if (auto* attributes = r.header("x-amzn-sagemaker-custom-attributes")) {
    auto text = *attributes; // Unpacking grows the vector that it points into.
    unpack_attributes(text, r);
  }
  auto* given = r.header(lower(settings.request_id_header));
  constexpr size_t longest_id = 256;
  r.id = given && !given->empty() && given->size() <= longest_id ? *given : uuid();
}

routed route(const front_state& state, request& r) {
  auto at = split(r.path);
  if (r.header("handler") && !state.settings.allow_request_handler)
    return lmi_error(400, "BadRequestException", "The handler can't be overridden in a request");
  if (r.method == "OPTIONS")
    return options(r, at);
  if (r.path == "/ping")
    return state.draining.load(std::memory_order_relaxed)
               ? routed{draining_reply()}
               : routed{engine_query{.what = ping_view({state.settings.allow_multi_status,
                                                        state.settings.fail_ping_when_unhealthy,
                                                        state.failures.exceeded()})}};
  if (r.path == "/metrics" || r.path == "/server/metrics")
    return show_metrics(state, r);
  if (auto model = inference_model(at))
    return generate(state, r, *model, false, nullptr);
  if (at.size() == 3 && at[0] == "predictions")
    return lmi_error(404, "ModelNotFoundException",
                     "Model or workflow not found: " + std::string{at[1]});
  if (!at.empty() && at[0] == "v1")
    return v1_routes(state, r, at);
  if (r.path == "/tokenize")
    return ask(state, r, parse_tokenize);
  if (r.path == "/detokenize")
    return ask(state, r, parse_detokenize);
  return unknown_route(error_style::lmi);
}

} // namespace troupe::http
