#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/actors/telemetry/log.hpp"
#include "troupe/http/router.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

struct management {
  front_state state;

  management() {
    state.source = [](const config::model_request&, std::stop_token) {
      return caf::expected<prepared_model>{caf::make_error(ec::internal)};
    };
  }

  routed send(std::string method, std::string_view target, std::string body = "",
              listener_role role = listener_role::everything) {
    request r;
    r.method = std::move(method);
    REQUIRE(parse_target(target, r));
    r.body = std::move(body);
    if (!r.body.empty())
      r.headers.emplace_back("content-type", "application/json");
    admit(state.settings, r);
    return route(state, r, role);
  }
  reply answer(std::string method, std::string_view target, std::string body = "",
               listener_role role = listener_role::everything) {
    auto out = send(std::move(method), target, std::move(body), role);
    REQUIRE(std::holds_alternative<reply>(out));
    return std::get<reply>(out);
  }
  template <class What>
  What asked(std::string method, std::string_view target, std::string body = "") {
    auto out = send(std::move(method), target, std::move(body));
    if (auto* refused = std::get_if<reply>(&out))
      FAIL(refused->body);
    auto& query = std::get<engine_query>(out);
    REQUIRE(std::holds_alternative<What>(query.what));
    return std::get<What>(query.what);
  }
  registration_request registration(std::string_view target, std::string body = "") {
    return asked<registration_request>("POST", target, std::move(body));
  }
  reply shown(std::string_view target, const std::vector<model_status>& models) {
    return asked<status_view>("GET", target)(models);
  }
};

model_status model(std::string name, model_state state = model_state::ready,
                   std::string version = "") {
  model_status out;
  out.name = std::move(name);
  out.folder = "/models/" + out.name;
  out.state = state;
  out.registered.version = std::move(version);
  return out;
}

std::string message_of(const reply& r) {
  auto body = test::parsed(r.body);
  return *body.find("message")->as_string();
}

} // namespace

TEST_CASE_METHOD(management, "a registration is read from the query or a JSON body",
                 "[http][management]") {
  auto a = registration("/models?url=file%3A%2F%2F%2Fm%2Ftiny.tar.gz&model_version=2&device=cpu&"
                        "batch_size=-1&min_worker=1&max_worker=3");
  CHECK(a.wanted.url == "file:///m/tiny.tar.gz");
  CHECK(a.wanted.name == "tiny");
  CHECK(a.wanted.version == "2");
  CHECK(a.wanted.devices == "cpu");
  CHECK(a.wanted.arguments ==
        std::map<std::string, std::string>{{"min_worker", "1"}, {"max_worker", "3"}});
  CHECK(a.synchronous);
  CHECK(!a.wanted.at_startup);
  auto b = registration(
      "/models",
      R"({"url": "/m/x", "model_name": "later", "synchronous": false, "batch_size": 4})");
  CHECK(b.wanted.name == "later");
  CHECK(!b.synchronous);
  CHECK(b.wanted.arguments.at("batch_size") == "4");
}

TEST_CASE_METHOD(management, "a registration that cannot be is refused", "[http][management]") {
  CHECK(message_of(answer("POST", "/models")) == "Parameter url is required.");
  CHECK(message_of(answer("POST", "/models", "{}")) == "Parameter url is required.");
  CHECK(answer("POST", "/models", "{").status == 400);
  CHECK(answer("POST", "/models", "[]").status == 400);
  CHECK(answer("POST", "/models", R"({"url": ["x"]})").status == 400);
  CHECK(answer("POST", "/models?url=x&model_name=a%2Fb").status == 400);
  auto number = answer("POST", "/models?url=x&max_worker=two");
  CHECK(number.status == 400);
  CHECK(message_of(number) == "max_worker must be a whole number, not \"two\"");
  state.source = nullptr;
  CHECK(answer("POST", "/models?url=x").status == 400);
}

TEST_CASE_METHOD(management, "methods that a path does not have are refused",
                 "[http][management]") {
  for (auto [method, path] :
       std::vector<std::pair<std::string, std::string>>{{"PUT", "/models"},
                                                        {"DELETE", "/models"},
                                                        {"POST", "/models/m"},
                                                        {"PATCH", "/models/m/1"},
                                                        {"PUT", "/workflows"},
                                                        {"GET", "/server/logging"}}) {
    auto a = answer(method, path);
    CHECK(a.status == 405);
    CHECK(a.body.find("MethodNotAllowedException") != std::string::npos);
  }
  CHECK(answer("GET", "/models/m/1/more").status == 404);
  CHECK(answer("GET", "/models/m/adapters").status == 404);
  CHECK(message_of(answer("POST", "/workflows")) ==
        "Either parameter url or template is required.");
  CHECK(answer("POST", "/workflows?url=x").status == 400);
}

TEST_CASE_METHOD(management, "models are listed by pages", "[http][management]") {
  std::vector<model_status> three{model("a"), model("b", model_state::loading, "1"),
                                  model("c", model_state::failed)};
  three[0].registered.url = "file:///a";
  auto first = shown("/models?limit=2", three);
  CHECK(first.status == 200);
  CHECK(first.body == R"({
  "nextPageToken": "2",
  "models": [
    {
      "modelName": "a",
      "modelUrl": "file:///a",
      "status": "READY"
    },
    {
      "modelName": "b",
      "version": "1",
      "modelUrl": "/models/b",
      "status": "PENDING"
    }
  ]
}
)");
  auto second = test::parsed(shown("/models?limit=2&next_page_token=2", three).body);
  CHECK(!second.find("nextPageToken"));
  REQUIRE(second.find("models")->as_array()->size() == 1);
  CHECK(*second.find("models")->as_array()->at(0).find("status")->as_string() == "FAILED");
  CHECK(shown("/models?limit=-1", three).body.find("nextPageToken") == std::string::npos);
  CHECK(shown("/models?next_page_token=9", three).body == "{\n  \"models\": []\n}\n");
  CHECK(shown("/models?limit=0", three).body.find("\"nextPageToken\": \"0\"") != std::string::npos);
  CHECK(answer("GET", "/models?limit=x").status == 400);
  auto flows = shown("/workflows?limit=1", three).body;
  CHECK(flows.find("\"workflowName\": \"a\"") != std::string::npos);
  CHECK(flows.find("modelUrl") == std::string::npos);
}

TEST_CASE_METHOD(management, "a description has every version or the one that is named",
                 "[http][management]") {
  auto one = model("m", model_state::ready, "1");
  one.registered.max_workers = 2;
  one.registered.at_startup = false;
  one.queue_limit = 1000;
  one.groups.push_back({-1, {}, 1, 2, {{7, 1'700'000'000'042, worker_state::ready}}});
  std::vector<model_status> models{one, model("m", model_state::failed, "2"), model("other")};
  models[1].problem = "no config.json";
  auto both = test::parsed(shown("/models/m", models).body);
  REQUIRE(both.as_array()->size() == 2);
  CHECK(*both.as_array()->at(1).find("version")->as_string() == "2");
  auto only = shown("/workflows/m/1", models);
  CHECK(only.body == R"([
  {
    "workflowName": "m",
    "version": "1",
    "models": [
      {
        "modelName": "m",
        "modelUrl": "/models/m",
        "batchSize": 1,
        "maxBatchDelayMillis": 100,
        "maxIdleSeconds": 60,
        "queueSize": 1000,
        "requestInQueue": 0,
        "status": "Healthy",
        "loadedAtStartup": false,
        "workerGroups": [
          {
            "device": {
              "deviceType": "cpu",
              "deviceId": -1
            },
            "minWorkers": 1,
            "maxWorkers": 2,
            "workers": [
              {
                "id": 7,
                "startTime": "2023-11-14T22:13:20.042Z",
                "status": "READY"
              }
            ]
          }
        ]
      }
    ]
  }
]
)");
  auto none = shown("/models/nobody", models);
  CHECK(none.status == 404);
  CHECK(message_of(none) == "Workflow not found: nobody");
  CHECK(shown("/models/m/3", models).status == 404);
}

TEST_CASE_METHOD(management, "scaling and unregistering name a version or none",
                 "[http][management]") {
  auto a = asked<worker_scaling>("PUT", "/models/m?min_worker=1&max_worker=2");
  CHECK(a.model == "m");
  CHECK(a.min == 1);
  CHECK(a.max == 2);
  auto b = asked<worker_scaling>("PUT", "/workflows/m/3");
  CHECK(b.version == "3");
  CHECK(b.max == -1);
  CHECK(answer("PUT", "/models/m?min_worker=x").status == 400);
  CHECK(a.devices.empty());
  CHECK(asked<worker_scaling>("PUT", "/models/m?device=gpu1").devices == std::vector<int32_t>{1});
  CHECK(asked<worker_scaling>("PUT", "/models/m?device=0;2").devices == std::vector<int32_t>{0, 2});
  CHECK(asked<worker_scaling>("PUT", "/models/m?device=-1").devices == std::vector<int32_t>{-1});
  CHECK(asked<worker_scaling>("PUT", "/models/m?device=cpu").devices == std::vector<int32_t>{-1});
  CHECK(asked<worker_scaling>("PUT", "/models/m?device=*").devices.empty());
  CHECK(message_of(answer("PUT", "/models/m?device=tpu0")) ==
        "device must be *, cpu, or GPUs such as 0;1 or gpu0, not \"tpu0\"");
  CHECK(!asked<unregistration_request>("DELETE", "/models/m").version);
  CHECK(asked<unregistration_request>("DELETE", "/models/m/3").version == "3");
  auto m = model("m");
  m.registered.max_workers = 2;
  CHECK(scaled_reply(a, {m, m}).body ==
        "{\n  \"status\": \"Workflow \\\"m\\\" worker scaled. New Worker configuration min "
        "workers:1 max workers:2\\nWorkflow \\\"m\\\" worker scaled. New Worker configuration min "
        "workers:1 max workers:2\"\n}\n");
  m.groups = {{0, {0}, 2, 3, {}}, {1, {1}, 4, 5, {}}};
  a.devices = {1};
  CHECK(scaled_reply(a, {m}).body.find("min workers:4 max workers:5") != std::string::npos);
}

TEST_CASE_METHOD(management, "errors of the management API have the contract's statuses",
                 "[http][management]") {
  auto status = [](ec code) {
    return management_error("m", "1", caf::make_error(code, std::string{"why"})).status;
  };
  CHECK(status(ec::name_taken) == 409);
  CHECK(status(ec::model_not_found) == 404);
  CHECK(status(ec::out_of_memory) == 507);
  CHECK(status(ec::bad_model) == 400);
  CHECK(status(ec::bad_option) == 400);
  CHECK(status(ec::model_not_ready) == 503);
  CHECK(status(ec::internal) == 500);
  CHECK(message_of(management_error("m", "", caf::make_error(ec::name_taken))) ==
        "Workflow m is already registered.");
}

TEST_CASE_METHOD(management, "each listener has its half of the routes", "[http][management]") {
  for (auto path : {"/models", "/workflows", "/models/m"}) {
    CHECK(answer("GET", path, "", listener_role::inference).status == 404);
    CHECK(std::holds_alternative<engine_query>(send("GET", path, "", listener_role::management)));
  }
  for (auto path : {"/ping", "/invocations", "/models/m/invoke", "/v1/models"})
    CHECK(answer("GET", path, "", listener_role::management).status == 404);
  CHECK(!std::holds_alternative<reply>(send("GET", "/ping", "", listener_role::inference)));
  for (auto role : {listener_role::inference, listener_role::management})
    CHECK(answer("GET", "/server/metrics", "", role).status == 200);
  CHECK(answer("OPTIONS", "/models", "", listener_role::management).body == "{}");
}

TEST_CASE_METHOD(management, "each model answers in its own manner", "[http][management]") {
  auto enter = [&](std::string name, bool tgi) {
    catalogued_model entry;
    entry.name = name;
    entry.at_startup = true;
    auto serial = state.models.add(std::move(entry));
    REQUIRE(serial);
    dialect_settings dialect;
    dialect.tgi_compat = tgi;
    dialect.default_model = name;
    state.models.prepared(*serial, name, std::make_shared<const dialect_settings>(dialect));
    state.models.ready(*serial);
  };
  enter("plain", false);
  auto job = [&](std::string_view target, std::string body) {
    auto out = send("POST", target, std::move(body));
    REQUIRE(std::holds_alternative<generation_job>(out));
    return std::get<generation_job>(std::move(out));
  };
  constexpr auto hello = R"({"inputs":"hi","stream":true})";
  auto only = job("/invocations", hello);
  CHECK(only.requests[0].model == "plain");
  CHECK(only.settings->default_model == "plain");
  enter("tgi", true);
  CHECK(job("/predictions/plain", hello).writer->content_type() == "application/jsonlines");
  CHECK(job("/predictions/tgi", hello).writer->content_type() == "text/event-stream");
  CHECK(job("/invocations", hello).requests[0].model.empty()); // The engine refuses it.
  // A placeholder is a name where a model bears it.
  auto chat =
      job("/v1/chat/completions", R"({"model":"tgi","messages":[{"role":"user","content":"x"}]})");
  CHECK(chat.requests[0].model == "tgi");
}

TEST_CASE_METHOD(management, "the log's level can be changed", "[http][management]") {
  CHECK(answer("POST", "/server/logging?level=OFF").body == "{\n  \"status\": \"OK\"\n}\n");
  CHECK(!telemetry::logs(telemetry::log_level::error));
  CHECK(answer("POST", "/server/logging?level=loud").status == 400);
  CHECK(answer("POST", "/server/logging").status == 200);
  CHECK(telemetry::logs(telemetry::log_level::info));
  CHECK(answer("POST", "/server/nothing").status == 404);
  telemetry::set_log_level(telemetry::log_level::off);
}
