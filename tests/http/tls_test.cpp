#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "fake_engine.hpp"
#include "troupe/config/error.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

/// Sends `bytes` over TLS and reads until the server closes.
/// @param subject Who the server says it is, unless null.
std::string talk(uint16_t port, const std::string& bytes, std::string* subject = nullptr) {
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
  if (subject) {
    auto* certificate = SSL_get1_peer_certificate(session);
    char name[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                              sizeof name);
    *subject = name;
    X509_free(certificate);
  }
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

/// A keystore with a key and the certificate of somebody called `name`.
class keystore {
public:
  keystore(const char* name, const char* password) {
    auto* key = EVP_RSA_gen(2048);
    auto* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    auto* subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_sign(certificate, key, EVP_sha256());
    auto* store = PKCS12_create(password, "server", key, certificate, nullptr, 0, 0, 0, 0, 0);
    auto* out = BIO_new_file(path.c_str(), "wb");
    REQUIRE(i2d_PKCS12_bio(out, store) == 1);
    BIO_free(out);
    PKCS12_free(store);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  ~keystore() { std::filesystem::remove(path); }

  std::string path =
      (std::filesystem::temp_directory_path() / ("troupe-" + std::to_string(::getpid()) + ".p12"))
          .string();
};

} // namespace

TEST_CASE("a keystore holds certificate and key", "[http][tls]") {
  keystore store{"somebody", "changeit"};
  auto settings = served::quick_settings();
  settings.tls = true;
  settings.keystore_file = store.path;
  settings.keystore_password = "changeit";
  served here{std::make_shared<script>(), settings};
  std::string subject;
  auto text = talk(here.port(), "GET /ping HTTP/1.1\r\nconnection: close\r\n\r\n", &subject);
  CHECK(text.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(subject == "somebody");

  settings.keystore_password = "wrong";
  auto wrong = http::server::start(here.system(), here.engine(), nullptr, settings);
  REQUIRE_FALSE(wrong);
  CHECK(text_of(wrong.error()).find("is keystore_pass right?") != std::string::npos);
  CHECK(text_of(wrong.error()).find("\"wrong\"") == std::string::npos);
  settings.keystore_file = TROUPE_SOURCE_DIR "/README.md";
  auto garbage = http::server::start(here.system(), here.engine(), nullptr, settings);
  REQUIRE_FALSE(garbage);
  CHECK(text_of(garbage.error()).find("no PKCS12 file") != std::string::npos);
}

TEST_CASE("without any certificate the server makes its own", "[http][tls]") {
  auto settings = served::quick_settings();
  settings.tls = true;
  served here{std::make_shared<script>(), settings};
  std::string subject;
  talk(here.port(), "GET /ping HTTP/1.1\r\nconnection: close\r\n\r\n", &subject);
  CHECK(!subject.empty());
}

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
