#include "troupe/http/transport.hpp"

#include <algorithm>
#include <climits>
#include <cstring>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "troupe/config/error.hpp"

namespace troupe::http {

namespace {

namespace asio = boost::asio;

SSL* session(void* p) {
  return static_cast<SSL*>(p);
}

caf::error tls_problem(const std::string& what) {
  auto code = ERR_get_error();
  auto* text =
      ERR_SYSTEM_ERROR(code) ? std::strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
  std::string why = text ? text : "unknown reason";
  ERR_clear_error();
  return caf::make_error(ec::bad_option, what + ": " + why);
}

} // namespace

caf::expected<std::shared_ptr<tls_context>> tls_context::make() {
  auto* native = SSL_CTX_new(TLS_server_method());
  if (!native)
    return tls_problem("TLS cannot be set up");
  std::shared_ptr<tls_context> out{new tls_context{native}};
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  // A write that is tried again comes from the same bytes at a place that may have moved.
  SSL_CTX_set_mode(native, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
  return out;
}

caf::expected<std::shared_ptr<tls_context>> tls_context::load(const std::string& certificate_file,
                                                              const std::string& key_file) {
  auto out = make();
  if (!out)
    return out;
  auto* native = static_cast<SSL_CTX*>((*out)->native());
  if (SSL_CTX_use_certificate_chain_file(native, certificate_file.c_str()) != 1)
    return tls_problem("certificate_file " + certificate_file + " cannot be used");
  if (SSL_CTX_use_PrivateKey_file(native, key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return tls_problem("private_key_file " + key_file + " cannot be used");
  if (SSL_CTX_check_private_key(native) != 1)
    return tls_problem("private_key_file " + key_file + " does not fit " + certificate_file);
  return out;
}

caf::expected<std::shared_ptr<tls_context>>
tls_context::load_keystore(const std::string& file, const std::string& password) {
  auto out = make();
  if (!out)
    return out;
  auto failed = "keystore " + file + " cannot be used";
  std::unique_ptr<BIO, decltype(&BIO_free)> in{BIO_new_file(file.c_str(), "rb"), BIO_free};
  if (!in)
    return tls_problem(failed);
  std::unique_ptr<PKCS12, decltype(&PKCS12_free)> store{d2i_PKCS12_bio(in.get(), nullptr),
                                                        PKCS12_free};
  if (!store)
    return tls_problem(failed + ": it is no PKCS12 file");
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
  STACK_OF(X509)* chain = nullptr;
  if (PKCS12_parse(store.get(), password.c_str(), &key, &certificate, &chain) != 1)
    return tls_problem(failed + ": is keystore_pass right?");
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> own_key{key, EVP_PKEY_free};
  std::unique_ptr<X509, decltype(&X509_free)> own_certificate{certificate, X509_free};
  auto free_chain = [](STACK_OF(X509) * x) { sk_X509_pop_free(x, X509_free); };
  std::unique_ptr<STACK_OF(X509), decltype(free_chain)> own_chain{chain, free_chain};
  if (!key || !certificate)
    return caf::make_error(ec::bad_option, failed + ": it holds no key with its certificate");
  auto* native = static_cast<SSL_CTX*>((*out)->native());
  if (SSL_CTX_use_cert_and_key(native, certificate, key, chain, 1) != 1)
    return tls_problem(failed);
  return out;
}

caf::expected<std::shared_ptr<tls_context>> tls_context::self_signed(const std::string& host) {
  constexpr unsigned key_bits = 2048;
  constexpr long year_seconds = 365L * 24 * 3600;
  auto out = make();
  if (!out)
    return out;
  auto* native = static_cast<SSL_CTX*>((*out)->native());
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{EVP_RSA_gen(key_bits), EVP_PKEY_free};
  std::unique_ptr<X509, decltype(&X509_free)> made{X509_new(), X509_free};
  if (!key || !made)
    return tls_problem("a self-signed certificate cannot be made");
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), year_seconds);
  X509_set_pubkey(made.get(), key.get());
  auto* name = X509_get_subject_name(made.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(host.c_str()), -1, -1, 0);
  X509_set_issuer_name(made.get(), name);
  if (X509_sign(made.get(), key.get(), EVP_sha256()) == 0 ||
      SSL_CTX_use_certificate(native, made.get()) != 1 ||
      SSL_CTX_use_PrivateKey(native, key.get()) != 1)
    return tls_problem("a self-signed certificate cannot be made");
  return out;
}

tls_context::~tls_context() {
  SSL_CTX_free(static_cast<SSL_CTX*>(native_));
}

transport::transport(stream_socket socket, std::shared_ptr<tls_context> tls)
    : socket_(std::move(socket)), tls_(std::move(tls)) {
  boost::system::error_code ignored;
  socket_.non_blocking(true, ignored);
  if (!tls_)
    return;
  auto* made = SSL_new(static_cast<SSL_CTX*>(tls_->native()));
  session_ = made;
  if (made) {
    SSL_set_fd(made, socket_.native_handle());
    SSL_set_accept_state(made);
  }
}

transport::~transport() {
  SSL_free(session(session_));
}

transport::result transport::tls_result(int returned) {
  if (returned > 0)
    return {status::ok, static_cast<size_t>(returned)};
  auto why = SSL_get_error(session(session_), returned);
  ERR_clear_error();
  if (why == SSL_ERROR_WANT_READ)
    return {status::want_read, 0};
  if (why == SSL_ERROR_WANT_WRITE)
    return {status::want_write, 0};
  return {status::closed, 0};
}

transport::result transport::read(char* to, size_t size) {
  if (tls_)
    return session_ ? tls_result(SSL_read(session(session_), to,
                                          static_cast<int>(std::min<size_t>(size, INT_MAX))))
                    : result{status::closed, 0};
  boost::system::error_code error;
  auto bytes = socket_.read_some(asio::buffer(to, size), error);
  if (error == asio::error::would_block || error == asio::error::try_again)
    return {status::want_read, 0};
  return error ? result{status::closed, 0} : result{status::ok, bytes};
}

transport::result transport::write(std::string_view from) {
  if (tls_)
    return session_
               ? tls_result(SSL_write(session(session_), from.data(),
                                      static_cast<int>(std::min<size_t>(from.size(), INT_MAX))))
               : result{status::closed, 0};
  boost::system::error_code error;
  auto bytes = socket_.write_some(asio::buffer(from.data(), from.size()), error);
  if (error == asio::error::would_block || error == asio::error::try_again)
    return {status::want_write, 0};
  return error ? result{status::closed, 0} : result{status::ok, bytes};
}

void transport::finish_writing() {
  if (session_)
    SSL_shutdown(session(session_));
  ERR_clear_error();
  boost::system::error_code ignored;
  socket_.shutdown(stream_socket::shutdown_send, ignored);
}

void transport::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

} // namespace troupe::http
