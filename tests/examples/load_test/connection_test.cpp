// What a client makes of servers that do not behave.

#include "troupe/examples/load_test/client/fetch.hpp"
#include "troupe/examples/load_test/mock/answers.hpp"

#include "rig.hpp"
#include "scripted_server.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::test;

namespace {

const std::string events =
    chunk("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n") +
    chunk("data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: {\"cho") +
    chunk(
        "ices\":[{\"delta\":{\"content\":\"c\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n";

run_results one_request(scripted_server::script script, uint64_t requests = 1) {
  scripted_server server{std::move(script)};
  rig r{server.port()};
  r.settings.plan.users = 1;
  r.settings.plan.requests = requests;
  r.settings.timeout = 2'000'000'000;
  return r.run().ordinary;
}

void check_end(const std::string& answer, outcome expected, const char* words = "") {
  INFO(answer.substr(0, 80));
  auto r = one_request({answer});
  REQUIRE(r.requests.size() == 1);
  CHECK(std::string{name_of(r.requests[0].ended)} == name_of(expected));
  if (*words) {
    REQUIRE(r.failure_texts.size() == 1);
    CHECK(r.failure_texts[0].second.find(words) != std::string::npos);
  }
}

} // namespace

TEST_CASE("an answer is understood in pieces of any size", "[examples][load]") {
  for (size_t piece : {1u, 2u, 3u, 7u, 50u, 100'000u}) {
    auto r = one_request({head + events + "0\r\n\r\n", piece});
    INFO("pieces of " << piece);
    REQUIRE(r.requests.size() == 1);
    CHECK(r.requests[0].ended == outcome::ok);
    CHECK(r.requests[0].output_tokens == 3);
    CHECK(r.requests[0].gap_count == 2);
  }
}

TEST_CASE("a body without length ends with the connection", "[examples][load]") {
  check_end("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
            outcome::ok);
}

TEST_CASE("a 100 Continue before the answer is no answer", "[examples][load]") {
  check_end("HTTP/1.1 100 Continue\r\n\r\n" + head + events + "0\r\n\r\n", outcome::ok);
}

TEST_CASE("answers that break off are lost connections", "[examples][load]") {
  check_end("", outcome::connection_lost, "before it answered");
  check_end(head.substr(0, 30), outcome::connection_lost, "before the answer was complete");
  check_end(head, outcome::connection_lost);
  check_end(head + events, outcome::connection_lost);
  check_end(head + events + "0\r\n", outcome::connection_lost);
}

TEST_CASE("what is no HTTP is malformed", "[examples][load]") {
  check_end("SSH-2.0-OpenSSH_9.2\r\n\r\n", outcome::malformed, "not HTTP/1.1");
  check_end(head + "zz\r\n", outcome::malformed, "not HTTP/1.1");
  check_end(head + std::string(100'000, '1'), outcome::malformed);
  check_end("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            outcome::malformed);
  std::string headers = "HTTP/1.1 200 OK\r\n";
  for (int i = 0; i < 2000; ++i)
    headers += "X-" + std::to_string(i) + ": y\r\n";
  check_end(headers, outcome::malformed);
}

TEST_CASE("an event that the dialect does not know is malformed at once", "[examples][load]") {
  // Nothing more comes and the connection stays: this must not wait for the timeout.
  auto r = one_request({head + chunk("data: nonsense\n\n"), 1 << 20, false});
  REQUIRE(r.requests.size() == 1);
  CHECK(r.requests[0].ended == outcome::malformed);
  CHECK(r.requests[0].end < 1'500'000'000);
}

TEST_CASE("a server that says nothing runs into the timeout", "[examples][load]") {
  auto r = one_request({"", 1, false});
  CHECK(r.requests[0].ended == outcome::timed_out);
  CHECK(r.failure_texts[0].second == "no complete answer within 2000 ms");
}

TEST_CASE("a kept connection that the server has closed is replaced", "[examples][load]") {
  // It says that it keeps the connection, and closes it.
  scripted_server server{{head + events + "0\r\n\r\n"}};
  rig r{server.port()};
  r.settings.plan.users = 1;
  r.settings.plan.requests = 5;
  auto out = r.run();
  CHECK(count(out.ordinary, outcome::ok) == 5);
  CHECK(server.connections() == 6); // one of them looked for the address
}

TEST_CASE("a fresh connection that is closed is not tried again", "[examples][load]") {
  scripted_server server{{"", 1, true, true}};
  rig r{server.port()};
  r.settings.plan.users = 1;
  r.settings.plan.requests = 3;
  auto out = r.run();
  CHECK(count(out.ordinary, outcome::connection_lost) == 3);
  CHECK(server.connections() == 4);
}

TEST_CASE("a server that is gone makes connections fail", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port()};
  mock.reset();
  auto out = r.run();
  CHECK(count(out.ordinary, outcome::connect_failed) == 12);
  CHECK(out.ordinary.failure_texts[0].second == "Connection refused");
}

TEST_CASE("fetch says what failed", "[examples][load]") {
  scripted_server server{{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}};
  rig r{server.port()};
  auto lost = fetch(r.to, "GET", "/x");
  REQUIRE_FALSE(lost);
  scripted_server silent{{"", 1, false}};
  rig s{silent.port()};
  CHECK_FALSE(fetch(s.to, "GET", "/x", {}, std::chrono::milliseconds{100}));
  scripted_server sound{{"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc", 1}};
  rig t{sound.port()};
  auto answer = fetch(t.to, "GET", "/x");
  REQUIRE(answer);
  CHECK(answer->status == 404);
  CHECK(answer->body == "abc");
}

TEST_CASE("addresses", "[examples][load]") {
  auto a = parse_address("http://h:81/base/").value();
  CHECK(a.host == "h");
  CHECK(a.port == 81);
  CHECK(a.path == "/base");
  CHECK(a.authority() == "h:81");
  CHECK(parse_address("https://h").value().port == 443);
  CHECK(parse_address("https://h").value().authority() == "h");
  CHECK(parse_address("localhost:8080").value().port == 8080);
  CHECK(parse_address("http://[::1]:9").value().host == "::1");
  CHECK(parse_address("http://[::1]:9").value().authority() == "[::1]:9");
  CHECK(parse_address("unix:/run/x").value().unix_path == "/run/x");
  for (const char* url : {"", "ftp://h", "http://", "http://h:0", "http://h:70000", "http://h:x",
                          "http://h:", "unix:x", "http://[::1", "http://[::1]x", "a b"})
    CHECK_FALSE(parse_address(url));
  CHECK(path_below(parse_address("http://h").value(), "/v1/completions") == "/v1/completions");
  CHECK(path_below(parse_address("http://h/v1").value(), "/v1/completions") == "/v1/completions");
  CHECK(path_below(parse_address("http://h/v1/completions").value(), "/v1/completions") ==
        "/v1/completions");
  CHECK(path_below(parse_address("http://h/api").value(), "/v1/completions") ==
        "/api/v1/completions");
}
