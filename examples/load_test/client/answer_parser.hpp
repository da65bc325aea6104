#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <boost/beast/http/basic_parser.hpp>

namespace troupe::load_test {

/// What an HTTP answer consists of.
class answer_parts {
public:
  virtual void header(uint16_t status, std::string_view content_type) = 0;
  /// A part of the body, where it lies in the bytes that were put in.
  virtual void body(std::string_view bytes) = 0;

protected:
  ~answer_parts() = default;
};

/// Beast's parser with the body handed on where it lies, instead of copied into a message.
class answer_parser final : public boost::beast::http::basic_parser<false> {
public:
  explicit answer_parser(answer_parts& to) : to_{to} {
    eager(true);
    body_limit(boost::none);
  }

  uint16_t status() const { return status_; }

private:
  using text = boost::beast::string_view;
  using code = boost::beast::error_code;

  void on_request_impl(boost::beast::http::verb, text, text, int, code&) override {}
  void on_response_impl(int status, text, int, code&) override {
    status_ = static_cast<uint16_t>(status);
  }
  void on_field_impl(boost::beast::http::field name, text, text value, code&) override {
    if (name == boost::beast::http::field::content_type)
      type_.assign(value.data(), value.size());
  }
  void on_header_impl(code&) override {
    if (status_ >= 200)
      to_.header(status_, type_);
  }
  void on_body_init_impl(const boost::optional<uint64_t>&, code&) override {}
  size_t on_body_impl(text body, code&) override {
    to_.body({body.data(), body.size()});
    return body.size();
  }
  void on_chunk_header_impl(uint64_t, text, code&) override {}
  size_t on_chunk_body_impl(uint64_t, text body, code&) override {
    to_.body({body.data(), body.size()});
    return body.size();
  }
  void on_finish_impl(code&) override {}

  answer_parts& to_;
  std::string type_;
  uint16_t status_ = 0;
};

} // namespace troupe::load_test
