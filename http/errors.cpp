#include "troupe/http/errors.hpp"

#include "troupe/config/error.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

constexpr std::string_view no_route =
    "Requested resource is not found, please refer to API document.";
constexpr std::string_view parse_prefix =
    "Input Parsing failed. Ensure that the request payload is valid. ";
constexpr std::string_view handler_failure = "exception occurred during rolling batch inference";

/// What a handler of the LMI kind reports: {"code", "error"}.
reply handler_error(int status, std::string_view message) {
  reply out;
  out.status = status;
  out.reason = reason_phrase(message);
  out.note = message;
  out.body = "{\"code\": " + std::to_string(status) + ", \"error\": ";
  json::append_string(out.body, message);
  out.body += '}';
  return out;
}

/// What a pipeline's handler reports: {"code", "message", "error"}.
reply pipeline_error(int status, std::string_view message) {
  auto out = handler_error(status, message);
  out.body = "{\"code\": " + std::to_string(status) +
             ", \"message\": \"invoke handler failure\", \"error\": ";
  json::append_string(out.body, message);
  out.body += '}';
  return out;
}

std::string_view openai_type(int status) {
  switch (status) {
  case 401:
    return "authentication_error";
  case 404:
    return "not_found_error";
  case 408:
    return "timeout_error";
  case 429:
    return "rate_limit_error";
  case 503:
    return "service_unavailable_error";
  default:
    return status < 500 ? "invalid_request_error" : "server_error";
  }
}

/// Tells a client that may come back when.
reply with_retry(reply out) {
  out.headers.emplace_back("retry-after", "1");
  return out;
}

std::string named(std::string_view text, std::string_view model) {
  return std::string{text} + std::string{model};
}

/// Whether the engine could not choose a model because the request named none.
bool lacks_model_name(std::string_view model, const caf::error& why) {
  auto code = code_of(why);
  return model.empty() &&
         (code == ec::model_not_found ||
          (code == ec::invalid_request && text_of(why).starts_with("Parameter model_name")));
}

reply lmi_reply(const dialect_settings& settings, std::string_view model, const caf::error& why) {
  auto code = code_of(why);
  auto text = text_of(why);
  if (lacks_model_name(model, why))
    return lmi_error(settings.bad_request_status, "BadRequestException",
                     "Parameter model_name is required.");
  auto shown = model.empty() ? std::string_view{settings.default_model} : model;
  switch (code) {
  case ec::invalid_request:
  case ec::prompt_too_long:
  case ec::template_failed:
    return handler_error(424, std::string{parse_prefix} + text);
  case ec::model_not_found:
    return lmi_error(404, "ModelNotFoundException", named("Model or workflow not found: ", model));
  case ec::not_found:
    return lmi_error(404, "ResourceNotFoundException", no_route);
  case ec::unauthorized:
    return lmi_error(401, "UnauthorizedException", text);
  case ec::request_timeout:
    return lmi_error(settings.wlm_error_status, "WlmException", text);
  case ec::slot_timeout:
    return lmi_error(settings.bad_request_status, "TranslateException",
                     "Time out in: " + std::to_string(settings.slot_timeout_ms / 1000));
  case ec::payload_too_large:
    return lmi_error(413, "PayloadTooLargeException", text);
  case ec::queue_full:
    return with_retry(lmi_error(settings.throttle_status, "WlmCapacityException",
                                named("Worker queue capacity exceeded for model: ", shown)));
  case ec::model_not_ready:
    return with_retry(lmi_error(settings.wlm_error_status, "ServiceUnavailableException",
                                named("Model is not ready: ", shown)));
  case ec::no_workers:
    return with_retry(lmi_error(settings.wlm_error_status, "WlmShutdownException",
                                named("All model workers has been shutdown: ", shown)));
  case ec::shutting_down:
    return with_retry(lmi_error(settings.wlm_error_status, "WlmException", "Worker shutting down"));
  case ec::out_of_memory:
    return handler_error(507, text);
  case ec::row_fault:
  case ec::step_fault:
  case ec::device_lost:
    return handler_error(424, handler_failure);
  default:
    return lmi_error(settings.server_error_status, "EngineException", text);
  }
}

reply pipeline_reply(const dialect_settings& settings, std::string_view model,
                     const caf::error& why) {
  switch (code_of(why)) {
  case ec::invalid_request:
    if (lacks_model_name(model, why))
      break;
    [[fallthrough]];
  case ec::prompt_too_long:
  case ec::template_failed:
  case ec::row_fault:
  case ec::step_fault:
  case ec::device_lost:
    return pipeline_error(424, text_of(why));
  default:
    break;
  }
  return lmi_reply(settings, model, why);
}

int openai_status(ec code) {
  switch (code) {
  case ec::invalid_request:
  case ec::prompt_too_long:
  case ec::template_failed:
    return 400;
  case ec::unauthorized:
    return 401;
  case ec::not_found:
  case ec::model_not_found:
    return 404;
  case ec::request_timeout:
    return 408;
  case ec::payload_too_large:
    return 413;
  case ec::name_taken:
    return 409;
  case ec::queue_full:
    return 429;
  case ec::slot_timeout:
  case ec::model_not_ready:
  case ec::no_workers:
  case ec::shutting_down:
  case ec::out_of_memory:
    return 503;
  default:
    return 500;
  }
}

std::string openai_object(int status, std::string_view code, std::string_view message,
                          std::string_view parameter) {
  std::string out = "{\"error\":{\"message\":";
  json::append_string(out, message);
  out += ",\"type\":";
  json::append_string(out, openai_type(status));
  out += ",\"param\":";
  if (parameter.empty())
    out += "null";
  else
    json::append_string(out, parameter);
  out += ",\"code\":";
  json::append_string(out, code);
  out += "}}";
  return out;
}

std::string tgi_object(std::string_view type, std::string_view message) {
  std::string out = "{\"error\":";
  json::append_string(out, message);
  out += ",\"error_type\":";
  json::append_string(out, type);
  out += '}';
  return out;
}

/// TGI's word for an error and the status that goes with it.
std::pair<int, std::string_view> tgi_kind(ec code) {
  switch (code) {
  case ec::invalid_request:
  case ec::prompt_too_long:
    return {422, "validation"};
  case ec::template_failed:
    return {422, "template_error"};
  case ec::unauthorized:
    return {401, "unauthorized"};
  case ec::not_found:
  case ec::model_not_found:
    return {404, "not_found"};
  case ec::request_timeout:
    return {408, "timeout"};
  case ec::payload_too_large:
    return {413, "validation"};
  case ec::queue_full:
  case ec::slot_timeout:
    return {429, "overloaded"};
  case ec::model_not_ready:
  case ec::shutting_down:
    return {503, "unhealthy"};
  default:
    return {424, "generation"};
  }
}

/// As TGI words it: what kind of error first.
std::string tgi_text(std::string_view type, std::string_view model, const caf::error& why) {
  if (lacks_model_name(model, why))
    return "Input validation error: several models are served, name one with ?model_name=NAME";
  if (type == "validation")
    return "Input validation error: " + text_of(why);
  if (type == "template_error")
    return "Template error: " + text_of(why);
  if (type == "generation")
    return "Request failed during generation: " + text_of(why);
  return type == "overloaded" ? "Model is overloaded: " + text_of(why) : text_of(why);
}

reply tgi_reply(std::string_view model, const caf::error& why) {
  auto [status, type] =
      lacks_model_name(model, why) ? tgi_kind(ec::invalid_request) : tgi_kind(code_of(why));
  auto out = tgi_error(status, type, tgi_text(type, model, why));
  return status == 429 || status == 503 ? with_retry(std::move(out)) : out;
}

reply openai_reply(std::string_view model, const caf::error& why) {
  auto code = code_of(why);
  if (lacks_model_name(model, why))
    return openai_error(400, "model_required",
                        "Name one of the models that GET /v1/models lists in \"model\".", "model");
  auto status = openai_status(code);
  auto out = openai_error(status, to_string_view(code), text_of(why),
                          code == ec::model_not_found ? "model" : "");
  return status == 429 || status == 503 ? with_retry(std::move(out)) : out;
}

} // namespace

reply lmi_error(int status, std::string_view type, std::string_view message) {
  reply out;
  out.status = status;
  out.note = message;
  out.body = "{\n  \"code\": " + std::to_string(status) + ",\n  \"type\": ";
  json::append_string(out.body, type);
  out.body += ",\n  \"message\": ";
  json::append_string(out.body, message);
  out.body += "\n}\n";
  return out;
}

reply openai_error(int status, std::string_view code, std::string_view message,
                   std::string_view parameter) {
  reply out;
  out.status = status;
  out.note = message;
  out.body = openai_object(status, code, message, parameter);
  return out;
}

reply tgi_error(int status, std::string_view type, std::string_view message) {
  reply out;
  out.status = status;
  out.note = message;
  out.body = tgi_object(type, message);
  return out;
}

reply refusal(error_style style, int status, std::string_view code, std::string_view type,
              std::string_view message, std::string_view parameter) {
  switch (style) {
  case error_style::openai:
    return openai_error(status, code, message, parameter);
  case error_style::tgi:
    return tgi_error(status, status < 500 ? "validation" : "unhealthy", message);
  default:
    return lmi_error(status, type, message);
  }
}

reply problem_reply(error_style style, const problem& why) {
  switch (style) {
  case error_style::openai:
    return openai_error(400, to_string_view(ec::invalid_request), why.message, why.parameter);
  case error_style::tgi:
    return tgi_error(422, "validation", "Input validation error: " + why.message);
  case error_style::pipeline:
    return pipeline_error(424, why.message);
  case error_style::lmi:
    break;
  }
  return handler_error(424, std::string{parse_prefix} + why.message);
}

reply error_reply(error_style style, const dialect_settings& settings, std::string_view model,
                  const caf::error& why) {
  switch (style) {
  case error_style::openai:
    return openai_reply(model, why);
  case error_style::tgi:
    return tgi_reply(model, why);
  case error_style::pipeline:
    return pipeline_reply(settings, model, why);
  case error_style::lmi:
    break;
  }
  return lmi_reply(settings, model, why);
}

bool is_model_failure(ec code) {
  return code == ec::row_fault || code == ec::step_fault || code == ec::device_lost ||
         code == ec::out_of_memory || code == ec::internal;
}

std::string stream_error(error_style style, const dialect_settings& settings,
                         std::string_view model, const caf::error& why) {
  auto code = code_of(why);
  if (style == error_style::openai)
    return openai_object(openai_status(code), to_string_view(code), text_of(why), {});
  if (style == error_style::tgi) {
    auto type = tgi_kind(code).second;
    return tgi_object(type, tgi_text(type, model, why));
  }
  auto status = lmi_reply(settings, model, why).status;
  auto fault = code == ec::row_fault || code == ec::step_fault || code == ec::device_lost;
  std::string out = "{\"code\": " + std::to_string(status) + ", \"error\": ";
  json::append_string(out, fault ? std::string{handler_failure} : text_of(why));
  out += '}';
  return out;
}

reply unknown_route(error_style style) {
  return style == error_style::tgi ? tgi_error(404, "not_found", no_route)
                                   : refusal(style, 404, to_string_view(ec::not_found),
                                             "ResourceNotFoundException", no_route);
}

reply unauthorized_reply(error_style style, bool given) {
  auto text = given
                  ? "The API key is not known here."
                  : "An API key is needed: send it as Authorization: Bearer KEY, or as x-api-key.";
  auto out = style == error_style::tgi
                 ? tgi_error(401, "unauthorized", text)
                 : refusal(style, 401, given ? "invalid_api_key" : to_string_view(ec::unauthorized),
                           "UnauthorizedException", text);
  out.headers.emplace_back("WWW-Authenticate", "Bearer");
  return out;
}

reply too_many_reply(error_style style, std::chrono::milliseconds wait) {
  auto seconds = std::to_string((wait.count() + 999) / 1000);
  auto text = "The API key's rate is used up; try again in " + seconds + " s";
  auto out = style == error_style::tgi
                 ? tgi_error(429, "overloaded", text)
                 : refusal(style, 429, "rate_limit_exceeded", "ThrottlingException", text);
  out.headers.emplace_back("retry-after", seconds);
  return out;
}

reply status_reply(std::string_view text) {
  reply out;
  out.body = "{\n  \"status\": ";
  json::append_string(out.body, text);
  out.body += "\n}\n";
  return out;
}

} // namespace troupe::http
