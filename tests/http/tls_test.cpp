#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "fake_engine.hpp"
#include "troupe/config/error.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

/// Sends `bytes` over TLS and reads until the server closes.
std::string talk(uint16_t port, const std::string& bytes) {
  auto socket = ::socket(AF_INET, SOCK_STREAM, 0);
  timeval limit{10, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  auto* context = SSL_CTX_new(TLS_client_method());
  auto* session = SSL_new(context);
  SSL_set_fd(session, socket);
  REQUIRE(SSL_connect(session) == 1);
  SSL_write(session, bytes.data(), static_cast<int>(bytes.size()));
  std::string out;
  char chunk[16384];
  int n = 0;
  while ((n = SSL_read(session, chunk, sizeof chunk)) > 0)
    out.append(chunk, static_cast<size_t>(n));
  SSL_free(session);
  SSL_CTX_free(context);
  ::close(socket);
  return out;
}

} // namespace

TEST_CASE("streams and large bodies work over TLS", "[http][tls]") {
  auto what = std::make_shared<script>();
  what->pieces.assign(2000, "word ");
  auto settings = served::quick_settings();
  settings.tls = true;
  served here{what, settings};
  std::string body = R"({"inputs":")" + std::string(200'000, 'x') + R"(","stream":true})";
  auto text = talk(here.port(), "POST /invocations HTTP/1.1\r\nconnection: close\r\n"
                                "content-type: application/json\r\ncontent-length: " +
                                    std::to_string(body.size()) + "\r\n\r\n" + body);
  CHECK(text.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(text.find("\"id\":2099,") != std::string::npos);
  CHECK(text.ends_with("\r\n0\r\n\r\n"));
}

TEST_CASE("a certificate that cannot be used is told at the start", "[http][tls]") {
  served here{std::make_shared<script>()};
  auto settings = served::quick_settings();
  settings.tls = true;
  settings.certificate_file = settings.private_key_file = "/no/such/file.pem";
  auto started = http::server::start(here.system(), here.engine(), nullptr, settings);
  REQUIRE_FALSE(started);
  CHECK(code_of(started.error()) == ec::bad_option);
  CHECK(text_of(started.error()).find("/no/such/file.pem") != std::string::npos);
}
