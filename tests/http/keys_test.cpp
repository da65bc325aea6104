#include <catch2/catch.hpp>

#include "client.hpp"
#include "fake_engine.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

http::server_settings with_keys(std::initializer_list<std::string_view> lines) {
  auto out = served::quick_settings();
  for (auto line : lines)
    out.api_keys.push_back(*http::parse_api_key(line));
  return out;
}

std::optional<answer> ask(served& here, std::string_view path, std::string_view headers = "") {
  client c{here.port()};
  return c.post(path, R"({"inputs":"hi","prompt":"hi"})", headers);
}

} // namespace

TEST_CASE("without a key only health is told", "[http][api_keys]") {
  served here{std::make_shared<script>(), with_keys({"sk-one"})};
  auto status = [&](std::string_view path, std::string_view headers = "") {
    client c{here.port()};
    return c.get(path, headers)->status;
  };
  CHECK(status("/ping") == 200);
  CHECK(status("/health") == 200);
  CHECK(status("/metrics") == 401);
  CHECK(status("/v1/models") == 401);
  CHECK(status("/openapi.json") == 401);
  CHECK(status("/metrics", "authorization: Bearer sk-one\r\n") == 200);
  CHECK(status("/metrics", "Authorization: bearer sk-one\r\n") == 200);
  CHECK(status("/metrics", "X-API-Key: sk-one\r\n") == 200);
  CHECK(status("/metrics", "authorization: sk-one\r\n") == 401);
  CHECK(status("/metrics", "authorization: Bearer sk-onE\r\n") == 401);
  client c{here.port()};
  c.send("OPTIONS /invocations HTTP/1.1\r\n\r\n");
  CHECK(c.receive()->status == 200);
}

TEST_CASE("each dialect is told in its own form that a key is missing", "[http][api_keys]") {
  served here{std::make_shared<script>(), with_keys({"sk-one"})};
  for (auto [path, part] : {std::pair{"/invocations", "\"type\": \"UnauthorizedException\""},
                            std::pair{"/v1/completions", "\"type\":\"authentication_error\""},
                            std::pair{"/generate", "\"error_type\":\"unauthorized\""}}) {
    CAPTURE(path);
    auto refused = ask(here, path, "x-api-key: sk-two\r\n");
    REQUIRE(refused);
    CHECK(refused->status == 401);
    CHECK(refused->header("www-authenticate") == "Bearer");
    CHECK(refused->body.find(part) != std::string::npos);
    CHECK(refused->body.find("sk-") == std::string::npos);
    CHECK(ask(here, path, "x-api-key: sk-one\r\n")->status == 200);
  }
}

TEST_CASE("a key's rate is told with the time to wait", "[http][api_keys]") {
  served here{std::make_shared<script>(), with_keys({"slow rate=1/h", "fast"})};
  CHECK(ask(here, "/invocations", "x-api-key: slow\r\n")->status == 200);
  for (auto [path, part] :
       {std::pair{"/invocations", "ThrottlingException"},
        std::pair{"/v1/completions", "rate_limit_error"}, std::pair{"/generate", "overloaded"}}) {
    auto refused = ask(here, path, "x-api-key: slow\r\n");
    REQUIRE(refused);
    CHECK(refused->status == 429);
    CHECK(std::stoi(refused->header("retry-after")) > 3000);
    CHECK(refused->body.find(part) != std::string::npos);
  }
  CHECK(ask(here, "/invocations", "x-api-key: fast\r\n")->status == 200);
}

TEST_CASE("who has no key need not send a body", "[http][api_keys]") {
  served here{std::make_shared<script>(), with_keys({"sk-one"})};
  client c{here.port()};
  c.send("POST /invocations HTTP/1.1\r\ncontent-length: 50000000\r\nexpect: 100-continue\r\n\r\n");
  auto refused = c.receive();
  REQUIRE(refused);
  CHECK(refused->status == 401);
  CHECK(c.closed_by_server());
}
