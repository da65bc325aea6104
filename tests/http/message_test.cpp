#include <catch2/catch.hpp>

#include "troupe/http/message.hpp"
#include "troupe/http/request_reader.hpp"

using namespace troupe::http;

TEST_CASE("targets are split and decoded", "[http][message]") {
  request r;
  REQUIRE(parse_target("/a%20b/c?x=1&y=%26+z&flag&name[]=N#frag", r));
  CHECK(r.path == "/a b/c");
  CHECK(*r.query_value("x") == "1");
  CHECK(*r.query_value("y") == "& z");
  CHECK(r.query_value("flag")->empty());
  CHECK(*r.query_value("name[]") == "N");
  CHECK_FALSE(r.query_value("none"));
  request proxy;
  REQUIRE(parse_target("http://host:1/p?q=2", proxy));
  CHECK(proxy.path == "/p");
  for (auto bad : {"", "relative", "/%", "/%4", "/%zz", "/ok?x=%g1"}) {
    request broken;
    CHECK_FALSE(parse_target(bad, broken));
  }
}

TEST_CASE("SageMaker's custom attributes become headers", "[http][message]") {
  request r;
  unpack_attributes("Model_Name=m; x-priority = 2;;broken;=x", r);
  REQUIRE(r.headers.size() == 2);
  CHECK(*r.header("model_name") == "m");
  CHECK(*r.header("x-priority") == "2");
}

TEST_CASE("forms are split into parts", "[http][message]") {
  auto plain =
      parse_form("application/x-www-form-urlencoded; charset=utf-8", "data=a+b%21&model_name=m");
  REQUIRE(plain);
  REQUIRE(plain->size() == 2);
  CHECK(plain->at(0).name == "data");
  CHECK(plain->at(0).content == "a b!");
  auto multi =
      parse_form("multipart/form-data; boundary=\"XX\"",
                 "--XX\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\none\r\ntwo\r\n"
                 "--XX\r\ncontent-disposition: form-data; filename=f; name=model_name\r\n"
                 "Content-Type: text/plain\r\n\r\nm\r\n--XX--\r\n");
  REQUIRE(multi);
  REQUIRE(multi->size() == 2);
  CHECK(multi->at(0).content == "one\r\ntwo");
  CHECK(multi->at(1).name == "model_name");
  CHECK(multi->at(1).content == "m");
  CHECK_FALSE(parse_form("application/json", "{}"));
  CHECK_FALSE(parse_form("multipart/form-data", "--XX"));
  CHECK_FALSE(parse_form("multipart/form-data; boundary=XX", "--XX\r\nno end"));
  CHECK_FALSE(parse_form("multipart/form-data; boundary=XX", "--XX\r\n\r\n"));
  CHECK_FALSE(parse_form("application/x-www-form-urlencoded", "a=%q"));
}

TEST_CASE("reason phrases stay on one line", "[http][message]") {
  CHECK(reason_phrase("a\r\nSet-Cookie: x\x01é") == "a  Set-Cookie: x???");
  CHECK(reason_phrase(std::string(500, 'x')).size() == 200);
}

TEST_CASE("a request is read byte by byte as well as at once", "[http][message]") {
  std::string bytes =
      "POST /p?q=1 HTTP/1.1\r\nHost: h\r\nX-Two: a\r\ncontent-length: 3\r\n\r\nabcGET";
  request_reader reader{1000, 1000};
  std::string input;
  request_reader::result got;
  size_t fed = 0;
  while (fed < bytes.size() && got.state != request_reader::status::done) {
    input += bytes[fed++];
    got = reader.feed(input);
    input.erase(0, got.consumed);
    REQUIRE(got.state <= request_reader::status::done);
    if (got.state == request_reader::status::header)
      CHECK(reader.keep_alive());
  }
  CHECK(fed == bytes.size() - 3);
  auto r = reader.take();
  REQUIRE(r);
  CHECK(r->method == "POST");
  CHECK(r->path == "/p");
  CHECK(*r->header("x-two") == "a");
  CHECK(r->body == "abc");

  request_reader whole{1000, 1000};
  auto first = whole.feed(bytes);
  CHECK(first.state == request_reader::status::header);
  auto second = whole.feed(std::string_view{bytes}.substr(first.consumed));
  CHECK(second.state == request_reader::status::done);
  CHECK(first.consumed + second.consumed == bytes.size() - 3);
}

TEST_CASE("requests that contradict themselves are refused", "[http][message]") {
  auto state_of = [](std::string_view bytes) {
    request_reader reader{1000, 1000};
    auto got = reader.feed(bytes);
    while (got.state == request_reader::status::header) {
      bytes.remove_prefix(got.consumed);
      got = reader.feed(bytes);
    }
    return got.state;
  };
  using status = request_reader::status;
  CHECK(state_of("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n") == status::bad);
  CHECK(state_of("GET / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd") ==
        status::bad);
  CHECK(state_of("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n") == status::bad);
  CHECK(state_of("GET / HTTP/9.9\r\n\r\n") == status::bad);
  CHECK(state_of("GET / HTTP/1.1\r\nx y: z\r\n\r\n") == status::bad);
  CHECK(state_of("POST / HTTP/1.1\r\ncontent-length: 1001\r\n\r\n") == status::body_too_long);
  CHECK(state_of("GET / HTTP/1.1\r\nx: " + std::string(2000, 'x')) == status::header_too_long);
}
