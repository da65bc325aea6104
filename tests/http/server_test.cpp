#include <catch2/catch.hpp>

#include "client.hpp"
#include "fake_engine.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

constexpr std::string_view hello = R"({"inputs":"hi","parameters":{"max_new_tokens":3}})";

script_ptr make_script() {
  return std::make_shared<script>();
}

} // namespace

TEST_CASE("every response carries the contract's headers", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  auto a = c.get("/ping", "x-request-id: abc\r\n");
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(a->header("x-request-id") == "abc");
  CHECK(a->header("pragma") == "no-cache");
  CHECK(a->header("cache-control") == "no-cache; no-store, must-revalidate, private");
  CHECK(a->header("expires") == "Thu, 01 Jan 1970 00:00:00 UTC");
  CHECK(a->header("connection") == "keep-alive");
  CHECK(a->body == "{\n  \"tiny\": {\"status\": \"Healthy\"}\n}\n");
  auto b = c.get("/ping");
  REQUIRE(b);
  CHECK(b->header("x-request-id").size() == 36);
}

TEST_CASE("a connection answers one request after the other", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  for (int i = 0; i < 3; ++i) {
    auto a = c.post("/invocations", hello);
    REQUIRE(a);
    CHECK(a->status == 200);
    CHECK(a->body == R"({"generated_text":"Hello world"})");
    CHECK(a->header("requestid") == a->header("x-request-id"));
  }
  auto refused = c.post("/invocations", "{}", "x-request-id: abc\r\n");
  REQUIRE(refused);
  CHECK(refused->status == 424);
  CHECK(refused->header("requestid") == "abc");
}

TEST_CASE("pipelined requests are answered in their order", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  c.send(post_bytes("/invocations", hello, "x-request-id: 1\r\n") +
         "GET /ping HTTP/1.1\r\nx-request-id: 2\r\n\r\n" +
         post_bytes("/invocations", R"({"inputs":"hi","stream":true})", "x-request-id: 3\r\n") +
         "GET /no/such HTTP/1.1\r\nx-request-id: 4\r\n\r\n");
  for (auto id : {"1", "2", "3", "4"}) {
    auto a = c.receive();
    REQUIRE(a);
    CHECK(a->header("x-request-id") == id);
  }
  CHECK(c.closed_by_server()); // The last one was an error.
}

TEST_CASE("a chunked request body is put together", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  c.send("POST /invocations HTTP/1.1\r\ncontent-type: application/json\r\n"
         "transfer-encoding: chunked\r\n\r\nb\r\n{\"inputs\": \r\n");
  c.send("5\r\n\"hi\"}\r\n0\r\n\r\n");
  auto a = c.receive();
  REQUIRE(a);
  CHECK(a->status == 200);
}

TEST_CASE("a body is asked for with 100 Continue", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  c.send("POST /invocations HTTP/1.1\r\ncontent-type: application/json\r\n"
         "expect: 100-continue\r\ncontent-length: 15\r\n\r\n");
  auto go = c.receive();
  REQUIRE(go);
  CHECK(go->status == 100);
  c.send("{\"inputs\":\"hi\"}");
  auto a = c.receive();
  REQUIRE(a);
  CHECK(a->status == 200);
}

TEST_CASE("a body over the limit is refused before it is read", "[http][server]") {
  auto settings = served::quick_settings();
  settings.max_request_size = 1000;
  served here{make_script(), settings};
  SECTION("announced") {
    client c{here.port()};
    c.send("POST /invocations HTTP/1.1\r\ncontent-length: 5000\r\n\r\n");
    auto a = c.receive();
    REQUIRE(a);
    CHECK(a->status == 413);
    CHECK(a->header("connection") == "close");
    CHECK(c.closed_by_server());
  }
  SECTION("announced to an OpenAI route") {
    client c{here.port()};
    c.send("POST /v1/completions HTTP/1.1\r\nx-request-id: a\r\ncontent-length: 5000\r\n\r\n");
    auto a = c.receive();
    REQUIRE(a);
    CHECK(a->status == 413);
    CHECK(a->header("x-request-id") == "a");
    CHECK(a->body.find("\"code\":\"payload_too_large\"") != std::string::npos);
  }
  SECTION("in chunks") {
    client c{here.port()};
    c.send("POST /invocations HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n" +
           std::string(2000, 'x') + "\r\n");
    auto a = c.receive();
    REQUIRE(a);
    CHECK(a->status == 413);
  }
}

TEST_CASE("a header over the limit is refused", "[http][server]") {
  auto settings = served::quick_settings();
  settings.max_header_bytes = 1024;
  served here{make_script(), settings};
  client c{here.port()};
  c.send("GET /ping HTTP/1.1\r\nx-long: " + std::string(4000, 'x'));
  auto a = c.receive();
  REQUIRE(a);
  CHECK(a->status == 431);
  CHECK(c.closed_by_server());
}

TEST_CASE("what is not HTTP gets 400", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  c.send("\x16\x03\x01 this is no request\r\n\r\n");
  auto a = c.receive();
  REQUIRE(a);
  CHECK(a->status == 400);
  CHECK(a->body == "{\n  \"code\": 400,\n  \"type\": \"BadRequestException\",\n"
                   "  \"message\": \"Invalid HTTP message.\"\n}\n");
  CHECK(c.closed_by_server());
}

TEST_CASE("slow requests and idle connections end", "[http][server]") {
  auto settings = served::quick_settings();
  settings.header_timeout = settings.body_timeout = settings.idle_timeout =
      std::chrono::milliseconds{100};
  served here{make_script(), settings};
  SECTION("half a header") {
    client c{here.port()};
    c.send("GET /ping HT");
    auto a = c.receive();
    REQUIRE(a);
    CHECK(a->status == 408);
  }
  SECTION("half a body") {
    client c{here.port()};
    c.send("POST /invocations HTTP/1.1\r\ncontent-length: 100\r\n\r\nabc");
    auto a = c.receive();
    REQUIRE(a);
    CHECK(a->status == 408);
  }
  SECTION("nothing after an answer") {
    client c{here.port()};
    REQUIRE(c.get("/ping"));
    CHECK(c.closed_by_server());
  }
  SECTION("nothing at all") {
    client c{here.port()};
    CHECK(c.closed_by_server());
  }
}

TEST_CASE("HTTP/1.0 clients get a body without chunks", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  c.send("POST /invocations HTTP/1.0\r\ncontent-length: "
         "29\r\n\r\n{\"inputs\":\"hi\",\"stream\":true}");
  auto a = c.receive();
  REQUIRE(a);
  CHECK_FALSE(a->chunked);
  CHECK(a->header("connection") == "close");
  CHECK(a->body.find("\"generated_text\":\"Hello world\"") != std::string::npos);
}

TEST_CASE("a body above the inline limit is parsed elsewhere and answered alike",
          "[http][server]") {
  auto settings = served::quick_settings();
  settings.inline_parse_bytes = 1000;
  served here{make_script(), settings};
  client c{here.port()};
  auto a = c.post("/invocations", "{\"inputs\":\"" + std::string(300'000, 'x') + "\"}");
  REQUIRE(a);
  CHECK(a->status == 200);
  auto b = c.post("/invocations", "{\"inputs\":[" + std::string(300'000, '['));
  REQUIRE(b);
  CHECK(b->status == 424);
}

TEST_CASE("HEAD answers without a body", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  c.send("HEAD /metrics HTTP/1.1\r\n\r\nGET /no/such HTTP/1.1\r\n\r\n");
  auto text = c.receive_some();
  while (text.find("404") == std::string::npos) {
    auto more = c.receive_some();
    REQUIRE_FALSE(more.empty());
    text += more;
  }
  CHECK(text.find("# HELP") == std::string::npos);
}

TEST_CASE("CORS headers appear when they are configured", "[http][server]") {
  auto settings = served::quick_settings();
  settings.cors_allowed_origin = "*";
  settings.cors_allowed_methods = "GET, POST";
  served here{make_script(), settings};
  client c{here.port()};
  c.send("OPTIONS /invocations HTTP/1.1\r\n\r\n");
  auto a = c.receive();
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(a->header("access-control-allow-origin") == "*");
  CHECK(a->header("access-control-allow-methods") == "GET, POST");
  CHECK(a->header("access-control-allow-headers").empty());
}

TEST_CASE("a port that is taken gives one clear sentence", "[http][server]") {
  served here{make_script()};
  auto settings = served::quick_settings();
  settings.port = here.port();
  auto second = http::server::start(here.system(), here.engine(), nullptr, settings);
  REQUIRE_FALSE(second);
  CHECK(code_of(second.error()) == ec::bad_option);
  CHECK(text_of(second.error()).find("cannot listen on 127.0.0.1:") == 0);
}

TEST_CASE("connections beyond the limit are told so", "[http][server]") {
  auto settings = served::quick_settings();
  settings.max_connections = 2;
  served here{make_script(), settings};
  client a{here.port()};
  client b{here.port()};
  REQUIRE(a.get("/ping"));
  REQUIRE(b.get("/ping"));
  client c{here.port()};
  auto refused = c.receive();
  REQUIRE(refused);
  CHECK(refused->status == 503);
  CHECK(refused->header("retry-after") == "1");
  CHECK(refused->body.ends_with("}\n"));
}

TEST_CASE("tokenize and detokenize ask the engine", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  auto a = c.post("/tokenize", R"({"prompt":"abc"})");
  REQUIRE(a);
  CHECK(a->body == R"({"tokens":[97,98,99],"count":3,"max_model_len":2048})");
  auto b = c.post("/detokenize", R"({"tokens":[104,105]})");
  REQUIRE(b);
  CHECK(b->body == R"({"prompt":"hi"})");
}

TEST_CASE("models are listed and looked up", "[http][server]") {
  served here{make_script()};
  client c{here.port()};
  auto a = c.get("/v1/models");
  REQUIRE(a);
  CHECK(a->body == R"({"object":"list","data":[{"id":"tiny","object":"model","created":1700000000,)"
                   R"("owned_by":"troupe","max_model_len":2048}]})");
  auto b = c.get("/v1/models/tiny");
  REQUIRE(b);
  CHECK(b->status == 200);
  auto d = c.get("/v1/models/none");
  REQUIRE(d);
  CHECK(d->status == 404);
}

TEST_CASE("with two models a request must name one", "[http][server]") {
  auto what = make_script();
  what->models = {ready_model("a"), ready_model("b")};
  served here{what};
  auto post = [&](std::string_view path, std::string_view body, std::string_view headers = "") {
    client c{here.port()};
    auto out = c.post(path, body, headers);
    REQUIRE(out);
    return *out;
  };
  CHECK(post("/invocations", hello).status == 400);
  CHECK(post("/invocations", hello).body.find("Parameter model_name is required.") !=
        std::string::npos);
  CHECK(post("/invocations?model_name=a", hello).status == 200);
  CHECK(post("/invocations", hello, "model_name: b\r\n").status == 200);
  CHECK(
      post("/invocations", hello, "X-Amzn-SageMaker-Custom-Attributes: model_name=b\r\n").status ==
      200);
  CHECK(post("/predictions/b", hello).status == 200);
  CHECK(post("/models/b/invoke", hello).status == 200);
  CHECK(post("/predictions/nosuch", hello).body.find("Model or workflow not found: nosuch") !=
        std::string::npos);
  constexpr auto chat = R"({"model":"b","messages":[{"role":"user","content":"x"}]})";
  CHECK(post("/v1/chat/completions", chat).status == 200);
  CHECK(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"x"}]})").status ==
        400);
}
