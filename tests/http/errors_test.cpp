#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/http/errors.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

caf::error error_of(ec code) {
  return caf::make_error(code, std::string{"why"});
}

} // namespace

TEST_CASE("each error has the status and type of its dialect", "[http][errors]") {
  dialect_settings settings;
  auto [code, lmi, lmi_type, openai,
        openai_type] = GENERATE(table<ec, int, std::string, int, std::string>({
      {ec::invalid_request, 424, "", 400, "invalid_request_error"},
      {ec::prompt_too_long, 424, "", 400, "invalid_request_error"},
      {ec::template_failed, 424, "", 400, "invalid_request_error"},
      {ec::unauthorized, 401, "UnauthorizedException", 401, "authentication_error"},
      {ec::model_not_found, 404, "ModelNotFoundException", 404, "not_found_error"},
      {ec::request_timeout, 503, "WlmException", 408, "timeout_error"},
      {ec::payload_too_large, 413, "PayloadTooLargeException", 413, "invalid_request_error"},
      {ec::queue_full, 503, "WlmCapacityException", 429, "rate_limit_error"},
      {ec::slot_timeout, 400, "TranslateException", 503, "service_unavailable_error"},
      {ec::model_not_ready, 503, "ServiceUnavailableException", 503, "service_unavailable_error"},
      {ec::shutting_down, 503, "WlmException", 503, "service_unavailable_error"},
      {ec::row_fault, 424, "", 500, "server_error"},
      {ec::device_lost, 424, "", 500, "server_error"},
      {ec::out_of_memory, 507, "", 503, "service_unavailable_error"},
      {ec::internal, 500, "EngineException", 500, "server_error"},
  }));
  auto a = error_reply(error_style::lmi, settings, "m", error_of(code));
  CAPTURE(to_string(code));
  CHECK(a.status == lmi);
  auto body = test::parsed(a.body);
  CHECK(*body.find("code")->as_integer() == lmi);
  if (lmi_type.empty())
    CHECK(body.find("error")->as_string());
  else
    CHECK(*body.find("type")->as_string() == lmi_type);
  auto b = error_reply(error_style::openai, settings, "m", error_of(code));
  CHECK(b.status == openai);
  auto object = test::parsed(b.body);
  CHECK(*object.find("error")->find("type")->as_string() == openai_type);
  CHECK(*object.find("error")->find("code")->as_string() == to_string(code));
}

TEST_CASE("statuses can be overridden", "[http][errors]") {
  dialect_settings settings;
  settings.throttle_status = 429;
  settings.bad_request_status = 422;
  settings.wlm_error_status = 504;
  auto status = [&](ec code) {
    return error_reply(error_style::lmi, settings, "m", error_of(code)).status;
  };
  CHECK(status(ec::queue_full) == 429);
  CHECK(status(ec::slot_timeout) == 422);
  CHECK(status(ec::request_timeout) == 504);
}

TEST_CASE("the texts are the contract's", "[http][errors]") {
  dialect_settings settings;
  settings.slot_timeout_ms = 5000;
  settings.default_model = "tiny";
  auto lmi = [&](ec code, std::string_view model) {
    return error_reply(error_style::lmi, settings, model, error_of(code)).body;
  };
  CHECK(lmi(ec::model_not_found, "nosuch") ==
        "{\n  \"code\": 404,\n  \"type\": \"ModelNotFoundException\",\n"
        "  \"message\": \"Model or workflow not found: nosuch\"\n}\n");
  CHECK(lmi(ec::queue_full, "").find("Worker queue capacity exceeded for model: tiny") !=
        std::string::npos);
  CHECK(lmi(ec::slot_timeout, "m").find("Time out in: 5\"") != std::string::npos);
  CHECK(
      lmi(ec::prompt_too_long, "m") ==
      R"({"code": 424, "error": "Input Parsing failed. Ensure that the request payload is valid. why"})");
  CHECK(problem_reply(error_style::lmi, {"x", "x is bad"}).reason ==
        "Input Parsing failed. Ensure that the request payload is valid. x is bad");
  CHECK(
      problem_reply(error_style::openai, {"x", "x is bad"}).body ==
      R"({"error":{"message":"x is bad","type":"invalid_request_error","param":"x","code":"invalid_request"}})");
  CHECK(stream_error(error_style::lmi, settings, "m", error_of(ec::step_fault)) ==
        R"({"code": 424, "error": "exception occurred during rolling batch inference"})");
  CHECK(
      stream_error(error_style::openai, settings, "m", error_of(ec::request_timeout)) ==
      R"({"error":{"message":"why","type":"timeout_error","param":null,"code":"request_timeout"}})");
}
