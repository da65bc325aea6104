#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/http/router.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

struct routes {
  front_state state;
  std::string content_type = "application/json";

  routed send(std::string method, std::string_view target, std::string body = "",
              std::vector<name_value> headers = {}) {
    request r;
    r.method = std::move(method);
    REQUIRE(parse_target(target, r));
    r.body = std::move(body);
    r.headers = std::move(headers);
    if (!content_type.empty())
      r.headers.emplace_back("content-type", content_type);
    admit(state.settings, r);
    return route(state, r);
  }
  reply answer(std::string method, std::string_view target, std::string body = "",
               std::vector<name_value> headers = {}) {
    auto out = send(std::move(method), target, std::move(body), std::move(headers));
    REQUIRE(std::holds_alternative<reply>(out));
    return std::get<reply>(out);
  }
  generation_request generation(std::string_view target, std::string body,
                                std::vector<name_value> headers = {}) {
    auto out = send("POST", target, std::move(body), std::move(headers));
    if (auto* refused = std::get_if<reply>(&out))
      FAIL(refused->body);
    REQUIRE(std::holds_alternative<generation_job>(out));
    return std::get<generation_job>(out).requests.front();
  }
};

constexpr auto hello = R"({"inputs":"hi"})";
constexpr auto talk = R"({"messages":[{"role":"user","content":"x"}]})";

} // namespace

TEST_CASE_METHOD(routes, "unknown paths get the error of their family", "[http][router]") {
  auto a = answer("GET", "/no/such/route");
  CHECK(a.status == 404);
  CHECK(a.body == "{\n  \"code\": 404,\n  \"type\": \"ResourceNotFoundException\",\n  \"message\": "
                  "\"Requested resource is not found, please refer to API document.\"\n}\n");
  CHECK(answer("GET", "/v1/nothing").body.find("\"error\":{") != std::string::npos);
  CHECK(answer("GET", "/").status == 404);
  CHECK(answer("POST", "/predictions").status == 404);
  CHECK(answer("POST", "/v1/models", "{}").status == 405);
  CHECK(answer("POST", "/server/metrics").status == 405);
}

TEST_CASE_METHOD(routes, "models are named by path, query, header or form", "[http][router]") {
  CHECK(generation("/invocations", hello).model.empty());
  CHECK(generation("/predictions/my%20model", hello).model == "my model");
  CHECK(generation("/models/m/invoke", hello).model == "m");
  CHECK(generation("/predictions/m/1.0", hello).model == "m");
  CHECK(generation("/predictions/m/1.0", hello).version == "1.0");
  CHECK(generation("/predictions/m?model_version=2", hello).version == "2");
  CHECK(generation("/predictions/m", hello, {{"model_version", "3"}}).version == "3");
  CHECK(generation("/invocations?model_name=q", hello, {{"model_name", "h"}}).model == "q");
  CHECK(generation("/invocations", hello, {{"model_name", "h"}}).model == "h");
  CHECK(generation("/v1/chat/completions?model_name=q", talk).model == "q");
  content_type = "application/x-www-form-urlencoded";
  auto form = generation("/invocations", "model_name=f&data=text");
  CHECK(form.model == "f");
  CHECK(form.input.text == "text");
}

TEST_CASE_METHOD(routes, "messages make a chat of any inference request", "[http][router]") {
  auto chat = generation("/predictions/m", talk);
  CHECK(chat.input.kind == prompt_kind::chat);
  CHECK(chat.params.max_new_tokens == 30);
  CHECK(generation("/v1/chat/completions", talk).params.max_new_tokens == -1);
  CHECK(generation("/invocations", R"({"prompt":"x"})").params.max_new_tokens == 16);
  CHECK(answer("POST", "/v1/chat/completions", hello).body.find("messages") != std::string::npos);
}

TEST_CASE_METHOD(routes, "the content type decides how a body is read", "[http][router]") {
  content_type = "";
  CHECK(generation("/invocations", hello).input.text == "hi");
  CHECK(answer("POST", "/invocations").status == 424);
  content_type = "application/octet-stream";
  CHECK(generation("/invocations", hello).input.text == hello);
  content_type = "multipart/form-data; boundary=B";
  CHECK(generation("/invocations",
                   "--B\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nhi\r\n--B--")
            .input.text == "hi");
  CHECK(answer("POST", "/invocations", "--B").status == 424);
  for (auto list : {"text/csv", "text/plain; charset=utf-8"}) {
    content_type = list;
    auto a = answer("POST", "/invocations", "inputs\nhi\n");
    CHECK(a.status == 424);
    CHECK(a.body.find("Input Parsing failed.") != std::string::npos);
  }
  // curl's default: the JSON is a form's name, not read as JSON.
  content_type = "application/x-www-form-urlencoded";
  CHECK(answer("POST", "/invocations", hello).status == 424);
  auto v1 = answer("POST", "/v1/chat/completions", talk);
  CHECK(v1.status == 400);
  CHECK(v1.body.find("Content-Type: application/json") != std::string::npos);
}

TEST_CASE_METHOD(routes, "malformed bodies get the dialect's parse error", "[http][router]") {
  auto a = answer("POST", "/invocations", "{\"inputs\": ");
  CHECK(a.status == 424);
  auto body = test::parsed(a.body);
  CHECK(*body.find("code")->as_integer() == 424);
  CHECK(body.find("error")->as_string()->find("Input Parsing failed. Ensure that the request "
                                              "payload is valid. ") == 0);
  auto b = answer("POST", "/v1/completions", "{\"prompt\": \"\xff\"}");
  CHECK(b.status == 400);
  CHECK(b.body.find("not valid UTF-8") != std::string::npos);
}

TEST_CASE_METHOD(routes, "headers and attributes shape the request", "[http][router]") {
  CHECK(generation("/invocations", hello, {{"x-priority", "1"}}).priority == 1);
  CHECK(generation("/invocations", hello).priority == 3);
  CHECK(answer("POST", "/invocations", hello, {{"x-priority", "soon"}}).status == 400);
  CHECK(generation("/invocations", hello, {{"x-request-id", "mine"}}).id == "mine");
  auto drawn = generation("/invocations", hello).id;
  CHECK(drawn.size() == 36);
  CHECK(drawn != generation("/invocations", hello).id);
  CHECK(generation("/invocations", hello,
                   {{"x-amzn-sagemaker-custom-attributes", "model_name=a;x-priority=2"}})
            .model == "a");
  auto handler =
      answer("POST", "/invocations", hello, {{"x-amzn-sagemaker-custom-attributes", "handler=x"}});
  CHECK(handler.status == 400);
  CHECK(handler.body.find("The handler can't be overridden in a request") != std::string::npos);
  state.settings.request_id_header = "X-Amzn-SageMaker-Inference-Id";
  CHECK(generation("/invocations", hello, {{"x-amzn-sagemaker-inference-id", "aws"}}).id == "aws");
}

TEST_CASE_METHOD(routes, "GET runs inference too", "[http][router]") {
  CHECK(std::holds_alternative<generation_job>(send("GET", "/invocations", hello)));
}

TEST_CASE_METHOD(routes, "ping shows the models' health", "[http][router]") {
  auto status_of = [&](std::vector<model_state> states) {
    auto out = send("GET", "/ping");
    auto& query = std::get<engine_query>(out);
    std::vector<model_status> models;
    for (auto state : states) {
      models.emplace_back();
      models.back().name = "m" + std::to_string(models.size());
      models.back().state = state;
    }
    return std::get<status_view>(query.what)(models);
  };
  CHECK(status_of({}).body == "{}\n");
  CHECK(status_of({model_state::ready}).status == 200);
  CHECK(status_of({model_state::loading}).status == 200);
  CHECK(status_of({model_state::loading}).body.find("PENDING") != std::string::npos);
  CHECK(status_of({model_state::ready, model_state::failed}).status == 500);
  CHECK(status_of({model_state::failed}).body.find("FAILED") != std::string::npos);
  CHECK(status_of({model_state::degraded}).status == 200);
  CHECK(status_of({model_state::degraded}).body.find("Unhealthy") != std::string::npos);
  CHECK(status_of({model_state::reloading}).status == 200);
  CHECK(status_of({model_state::reloading}).body.find("Unhealthy") != std::string::npos);
  state.settings.allow_multi_status = true;
  state.settings.fail_ping_when_unhealthy = true;
  CHECK(status_of({model_state::loading}).status == 207);
  CHECK(status_of({model_state::reloading}).status == 500);
  state.failures.record(500, false);
  CHECK(status_of({model_state::ready}).status == 200); // no limit is set
  state.draining = true;
  CHECK(answer("GET", "/ping").status == 503);
}

TEST_CASE_METHOD(routes, "metrics are filtered by name and can be turned off", "[http][router]") {
  state.facts = {"h", "1", 5};
  auto all = answer("GET", "/metrics");
  CHECK(all.content_type.find("text/plain; version=0.0.4") == 0);
  CHECK(all.body.find("Response_2XX_total") != std::string::npos);
  auto one = answer("GET", "/server/metrics?name[]=StartupLatency");
  CHECK(one.body.find("StartupLatency{Host=") != std::string::npos);
  CHECK(one.body.find("Response_2XX") == std::string::npos);
  state.metrics = std::make_shared<telemetry::metrics>();
  state.metrics->model("tiny");
  auto engine = answer("GET", "/metrics").body;
  CHECK(engine.find("troupe_requests_running{model=\"tiny\"} 0") != std::string::npos);
  for (auto name : {"RequestLatency_count", "QueueTime_count", "LoadModel", "DownloadModel",
                    "RegisterWorkflow", "ModelLoadingError_total", "RollingBatchTimeout_total"})
    CHECK(engine.find(std::string{name} + "{Model=\"tiny\"} 0") != std::string::npos);
  state.settings.metrics_enabled = false;
  CHECK(answer("GET", "/metrics").status == 400);
}

TEST_CASE_METHOD(routes, "OPTIONS is answered on known routes", "[http][router]") {
  CHECK(answer("OPTIONS", "/").body == "{}");
  CHECK(answer("OPTIONS", "*").body == "{}");
  CHECK(answer("OPTIONS", "/v1/chat/completions").body == "{}");
  CHECK(answer("OPTIONS", "/nothing").status == 404);
  auto out = send("OPTIONS", "/predictions/m");
  auto& view = std::get<status_view>(std::get<engine_query>(out).what);
  CHECK(view({}).status == 404);
}
