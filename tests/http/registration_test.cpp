#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>

#include "client.hpp"
#include "fake_engine.hpp"
#include "troupe/http/url_pattern.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

/// A source of models that waits while the test wants it to.
struct gate {
  std::mutex guard;
  std::condition_variable changed;
  bool open = true;
  int waiting = 0;

  void set(bool now) {
    std::lock_guard lock{guard};
    open = now;
    changed.notify_all();
  }
  void pass(std::stop_token stop) {
    std::unique_lock lock{guard};
    ++waiting;
    std::stop_callback wake{stop, [this] { changed.notify_all(); }};
    while (!open && !stop.stop_requested())
      changed.wait_for(lock, std::chrono::milliseconds{5});
  }
  int waited() {
    std::lock_guard lock{guard};
    return waiting;
  }
};

struct registering {
  std::shared_ptr<gate> door = std::make_shared<gate>();
  script_ptr script = std::make_shared<test::script>();

  http::model_source source() {
    return [door = door](const config::model_request& wanted,
                         std::stop_token stop) -> caf::expected<http::prepared_model> {
      door->pass(stop);
      if (stop.stop_requested())
        return caf::make_error(ec::cancelled, std::string{"stopped"});
      if (wanted.url.find("nowhere") != std::string::npos)
        return caf::make_error(ec::model_not_found, "there is nothing at " + wanted.url);
      http::prepared_model out;
      out.spec.name = wanted.name;
      out.dialect.tgi_compat = wanted.url.find("tgi") != std::string::npos;
      return out;
    };
  }
};

} // namespace

TEST_CASE_METHOD(registering, "a registered model is listed, described, scaled, used and gone",
                 "[http][registration]") {
  served here{script, served::quick_settings(), source()};
  client c{here.port()};
  auto a = c.post("/models?url=file%3A%2F%2F%2Fm%2Ftgi&model_name=new&synchronous=true", "");
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(a->body == "{\n  \"status\": \"Model \\\"new\\\" registered.\"\n}\n");
  auto list = c.get("/models");
  REQUIRE(list);
  CHECK(list->body.find("\"modelName\": \"new\"") != std::string::npos);
  CHECK(list->body.find("\"modelUrl\": \"file:///m/tgi\"") != std::string::npos);
  auto described = c.get("/models/new");
  REQUIRE(described);
  CHECK(described->body.find("\"loadedAtStartup\": false") != std::string::npos);
  auto answered = c.post("/predictions/new", R"({"inputs":"hi"})");
  REQUIRE(answered);
  CHECK(answered->body.starts_with("[{\"generated_text\":")); // As its own settings say.
  client put{here.port()};
  put.send("PUT /models/new?min_worker=1&max_worker=2 HTTP/1.1\r\n\r\n");
  auto scaled = put.receive();
  REQUIRE(scaled);
  CHECK(scaled->body.find("min workers:1 max workers:2") != std::string::npos);
  put.send("DELETE /models/new HTTP/1.1\r\n\r\n");
  auto gone = put.receive();
  REQUIRE(gone);
  CHECK(gone->body == "{\n  \"status\": \"Model or workflow \\\"new\\\" unregistered\"\n}\n");
  put.send("DELETE /models/new HTTP/1.1\r\n\r\n");
  auto unknown = put.receive();
  REQUIRE(unknown);
  CHECK(unknown->status == 404);
  CHECK(unknown->body.find("Model or workflow not found: new") != std::string::npos);
}

TEST_CASE_METHOD(registering, "an asynchronous registration is answered before it is over",
                 "[http][registration]") {
  served here{script, served::quick_settings(), source()};
  door->set(false);
  client c{here.port()};
  auto a = c.post("/models", R"({"url": "/m/x", "model_name": "later", "synchronous": false})");
  REQUIRE(a);
  CHECK(a->status == 202);
  CHECK(a->body.find("Model \\\"later\\\" registration scheduled.") != std::string::npos);
  auto pending = c.get("/models/later");
  REQUIRE(pending);
  CHECK(pending->body.find("PENDING") != std::string::npos);
  client other{here.port()};
  auto twice = other.post("/models?url=%2Fm%2Fy&model_name=later", "");
  REQUIRE(twice);
  CHECK(twice->status == 409);
  CHECK(twice->body.find("Workflow later is already registered.") != std::string::npos);
  client put{here.port()};
  put.send("PUT /models/later?min_worker=1 HTTP/1.1\r\n\r\n");
  auto early = put.receive();
  REQUIRE(early);
  CHECK(early->status == 503);
  door->set(true);
  CHECK(eventually([&] {
    auto now = c.get("/models/later");
    return now && now->body.find("Healthy") != std::string::npos;
  }));
}

TEST_CASE_METHOD(registering, "a failed registration is forgotten, an asynchronous one is listed",
                 "[http][registration]") {
  served here{script, served::quick_settings(), source()};
  client a{here.port()}, b{here.port()}, c{here.port()};
  auto unknown = a.post("/models?url=nowhere", "");
  REQUIRE(unknown);
  CHECK(unknown->status == 404);
  CHECK(unknown->body.find("ModelNotFoundException") != std::string::npos);
  script->load_fault = caf::make_error(ec::out_of_memory, std::string{"full"});
  auto full = b.post("/models?url=x&model_name=big", "");
  REQUIRE(full);
  CHECK(full->status == 507);
  auto list = c.get("/models");
  REQUIRE(list);
  CHECK(list->body.find("nowhere") == std::string::npos);
  CHECK(list->body.find("big") == std::string::npos);
  for (auto target : {"/models?url=nowhere&synchronous=false",
                      "/models?url=x&model_name=big&synchronous=false"}) {
    auto scheduled = c.post(target, "");
    REQUIRE(scheduled);
    CHECK(scheduled->status == 202);
  }
  CHECK(eventually([&] {
    client d{here.port()};
    auto nowhere = d.get("/models/nowhere"), big = d.get("/models/big");
    return nowhere && nowhere->body.find("FAILED") != std::string::npos && big &&
           big->body.find("FAILED") != std::string::npos;
  }));
  client ping{here.port()};
  auto health = ping.get("/ping");
  REQUIRE(health);
  CHECK(health->status == 500);
  client remover{here.port()};
  for (auto name : {"nowhere", "big"}) {
    remover.send(std::string{"DELETE /models/"} + name + " HTTP/1.1\r\n\r\n");
    auto gone = remover.receive();
    REQUIRE(gone);
    CHECK(gone->status == 200);
  }
}

TEST_CASE_METHOD(registering, "a model can be unregistered while it is being prepared",
                 "[http][registration]") {
  served here{script, served::quick_settings(), source()};
  door->set(false);
  client waiting{here.port()}, other{here.port()};
  waiting.send(post_bytes("/models?url=x&model_name=slow", ""));
  REQUIRE(eventually([&] { return door->waited() == 1; }));
  other.send("DELETE /models/slow HTTP/1.1\r\n\r\n");
  auto gone = other.receive();
  REQUIRE(gone);
  CHECK(gone->status == 200);
  auto ended = waiting.receive();
  REQUIRE(ended);
  CHECK(ended->status == 409);
}

TEST_CASE_METHOD(registering, "a server ends while a model is being prepared",
                 "[http][registration]") {
  door->set(false);
  served here{script, served::quick_settings(), source()};
  client c{here.port()};
  auto a = c.post("/models?url=x&model_name=slow&synchronous=false", "");
  REQUIRE(a);
  CHECK(a->status == 202);
} // Its destructor waits for every actor.

TEST_CASE_METHOD(registering, "the management API can have a listener of its own",
                 "[http][registration]") {
  auto settings = served::quick_settings();
  settings.management = http::listen_address{"127.0.0.1", 0, "", false};
  served here{script, settings, source()};
  REQUIRE(here.server().management_port() != here.port());
  client inference{here.port()}, management{here.server().management_port()};
  auto there = management.get("/models");
  REQUIRE(there);
  CHECK(there->status == 200);
  auto not_here = inference.get("/models");
  REQUIRE(not_here);
  CHECK(not_here->status == 404);
  client more{here.server().management_port()};
  auto ping = more.get("/ping");
  REQUIRE(ping);
  CHECK(ping->status == 404);
  client metrics{here.server().management_port()};
  auto page = metrics.get("/metrics");
  REQUIRE(page);
  CHECK(page->status == 200);
}

TEST_CASE_METHOD(registering, "a request may have an unknown model loaded from an allowed URL",
                 "[http][registration]") {
  auto settings = served::quick_settings();
  settings.model_url_pattern = "file:///m/.*";
  served here{script, settings, source()};
  constexpr auto hello = R"({"inputs":"hi"})";
  auto refused = [&](std::string target, std::string text) {
    auto a = client{here.port()}.post(target, hello);
    REQUIRE(a);
    CHECK(a->status == 404);
    CHECK(a->body.find("ModelNotFoundException") != std::string::npos);
    CHECK(a->body.find(text) != std::string::npos);
  };
  refused("/predictions/new", "Parameter model_url is required.");
  refused("/predictions/new?model_url=file:///etc/m/x", "Permission denied: file:///etc/m/x");
  refused("/predictions/new?model_url=file:///m/nowhere", "there is nothing at file:///m/nowhere");
  refused("/predictions/new?model_url=file:///m/" + std::string(5000, 'x'), "Permission denied: ");

  auto a = client{here.port()}.post("/predictions/new?model_url=file:///m/tgi", hello);
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(a->body.starts_with("[{\"generated_text\":")); // As its own settings say.
  client c{here.port()};
  auto again = c.post("/invocations?model_name=new", hello); // It is there now.
  REQUIRE(again);
  CHECK(again->status == 200);
  auto described = c.get("/models/new");
  REQUIRE(described);
  CHECK(described->body.find("\"loadedAtStartup\": false") != std::string::npos);
  auto by_header =
      c.post("/invocations", hello,
             "model_name: other\r\nmodel_version: 2\r\nmodel_url: file:///m/plain\r\n");
  REQUIRE(by_header);
  CHECK(by_header->status == 200);
  CHECK(by_header->body.starts_with("{\"generated_text\":"));
  CHECK(c.get("/models/other/2")->status == 200);
}

TEST_CASE_METHOD(registering,
                 "while a request has a model loaded, others hear that it is not ready",
                 "[http][registration]") {
  auto settings = served::quick_settings();
  settings.model_url_pattern = ".*";
  served here{script, settings, source()};
  door->set(false);
  client first{here.port()}, second{here.port()};
  first.send(post_bytes("/predictions/new?model_url=x", R"({"inputs":"hi"})"));
  REQUIRE(eventually([&] { return door->waited() == 1; }));
  auto early = second.post("/predictions/new?model_url=x", R"({"inputs":"hi"})");
  REQUIRE(early);
  CHECK(early->status == 503);
  CHECK(early->body.find("Model is not ready: new") != std::string::npos);
  door->set(true);
  auto a = first.receive();
  REQUIRE(a);
  CHECK(a->status == 200);
}

TEST_CASE_METHOD(registering, "without a pattern no request loads anything, and a bad one is told",
                 "[http][registration]") {
  served here{script, served::quick_settings(), source()};
  auto a = client{here.port()}.post("/predictions/new?model_url=file:///m/x", R"({"inputs":"hi"})");
  REQUIRE(a);
  CHECK(a->status == 404);
  CHECK(a->body.find("Model or workflow not found: new") != std::string::npos);
  auto bad = http::url_pattern::compile("file:///(");
  REQUIRE(!bad);
  CHECK(code_of(bad.error()) == ec::bad_option);
  CHECK(text_of(bad.error()).find("file:///(") != std::string::npos);
}
