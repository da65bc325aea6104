#include "troupe/http/router.hpp"

#include <type_traits>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/dialects/openai_completions.hpp"
#include "troupe/http/dialects/tgi.hpp"
#include "troupe/http/inference.hpp"
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
    return tokenize(state, r);
  if (r.path == "/detokenize")
    return detokenize(state, r);
  return unknown_route(style);
}

} // namespace troupe::http
