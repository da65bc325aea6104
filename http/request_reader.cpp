#include "troupe/http/request_reader.hpp"

#include <optional>

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace troupe::http {

namespace beast = boost::beast;

struct request_reader::parser {
  beast::http::request_parser<beast::http::string_body> beast_parser;
  bool header_reported = false;
};

request_reader::request_reader(size_t header_limit, uint64_t body_limit)
    : parser_(std::make_unique<parser>()) {
  auto& p = parser_->beast_parser;
  p.header_limit(static_cast<std::uint32_t>(header_limit));
  p.body_limit(body_limit);
  // One thing at a time, so that the header can be answered before its body is read.
  p.eager(false);
}

request_reader::~request_reader() = default;
request_reader::request_reader(request_reader&&) noexcept = default;
request_reader& request_reader::operator=(request_reader&&) noexcept = default;

request_reader::result request_reader::feed(std::string_view bytes) {
  auto& p = parser_->beast_parser;
  result out;
  while (!p.is_done()) {
    boost::system::error_code error;
    auto rest = bytes.substr(out.consumed);
    if (rest.empty())
      return out;
    auto used = p.put(boost::asio::buffer(rest.data(), rest.size()), error);
    out.consumed += used;
    if (error == beast::http::error::need_more)
      return out;
    if (error) {
      out.state = error == beast::http::error::header_limit ? status::header_too_long
                  : error == beast::http::error::body_limit ? status::body_too_long
                                                            : status::bad;
      return out;
    }
    if (p.is_header_done() && !std::exchange(parser_->header_reported, true) && !p.is_done()) {
      out.state = status::header;
      return out;
    }
  }
  out.state = status::done;
  return out;
}

bool request_reader::expects_continue() const {
  const auto& message = parser_->beast_parser.get();
  return message.version() >= 11 &&
         beast::iequals(message[beast::http::field::expect], "100-continue");
}

bool request_reader::keep_alive() const {
  return parser_->beast_parser.keep_alive();
}

bool request_reader::http_1_0() const {
  return parser_->beast_parser.get().version() < 11;
}

namespace {

template <class Message>
bool copy_head(const Message& message, request& to) {
  to.method = std::string{message.method_string()};
  to.target = std::string{message.target().data(), message.target().size()};
  for (const auto& field : message)
    to.headers.emplace_back(lower({field.name_string().data(), field.name_string().size()}),
                            std::string{field.value().data(), field.value().size()});
  return parse_target({message.target().data(), message.target().size()}, to);
}

} // namespace

request request_reader::head() const {
  request out;
  return copy_head(parser_->beast_parser.get(), out) ? out : request{};
}

std::optional<request> request_reader::take() {
  auto message = parser_->beast_parser.release();
  request out;
  if (!copy_head(message, out))
    return std::nullopt;
  out.body = std::move(message.body());
  return out;
}

} // namespace troupe::http
