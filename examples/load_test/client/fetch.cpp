#include "troupe/examples/load_test/client/fetch.hpp"

#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/client/answer_parser.hpp"
#include "troupe/examples/load_test/client/byte_stream.hpp"

namespace troupe::load_test {

namespace {

using status = byte_stream::status;
constexpr size_t longest_answer = size_t{16} << 20;

/// The steps of one request, each until it has to wait.
class errand final : answer_parts {
public:
  errand(boost::asio::io_context& io, const target& to, std::string request)
      : stream_{io, to}, request_{std::move(request)} {
    stream_.connect(0, [this](boost::system::error_code error) {
      if (error)
        failure = error.message();
      else
        go_on();
    });
  }

  bool done = false;
  std::string failure = "no answer in time";
  fetched result;

private:
  void header(uint16_t s, std::string_view) override { result.status = s; }
  void body(std::string_view bytes) override { result.body.append(bytes); }

  void go_on() {
    for (;;) {
      auto [state, bytes] = step();
      if (done ||
          (state != status::ok && state != status::want_read && state != status::want_write))
        return finish();
      auto again = [this](boost::system::error_code error) {
        if (!error)
          go_on();
      };
      if (state == status::want_read)
        return stream_.wait_readable(again);
      if (state == status::want_write)
        return stream_.wait_writable(again);
    }
  }

  byte_stream::result step() {
    if (!shaken_) {
      auto r = stream_.handshake();
      shaken_ = r.state == status::ok;
      return r;
    }
    if (written_ < request_.size()) {
      auto r = stream_.write(std::string_view{request_}.substr(written_));
      written_ += r.bytes;
      return r;
    }
    auto held = buffer_.size();
    buffer_.resize(held + room);
    auto r = stream_.read(buffer_.data() + held, room);
    buffer_.resize(held + r.bytes);
    if (r.state == status::ok)
      parse();
    return r;
  }

  void parse() {
    boost::beast::error_code error;
    auto used = parser_.put({buffer_.data(), buffer_.size()}, error);
    buffer_.erase(0, used);
    if (error && error != boost::beast::http::error::need_more) {
      failure = "the answer is not HTTP/1.1: " + error.message();
      done = true;
    } else if (result.body.size() > longest_answer) {
      failure = "the answer is longer than 16 MiB";
      done = true;
    } else if (parser_.is_done()) {
      failure.clear();
      done = true;
    }
  }

  void finish() {
    if (done)
      return stream_.close();
    boost::beast::error_code error;
    if (parser_.got_some() && parser_.is_header_done() && parser_.need_eof())
      parser_.put_eof(error);
    if (parser_.is_done())
      failure.clear();
    else
      failure = stream_.why().empty() ? "closed by the server" : stream_.why();
    done = true;
    stream_.close();
  }

  static constexpr size_t room = size_t{16} << 10;
  byte_stream stream_;
  answer_parser parser_{*this};
  std::string request_;
  std::string buffer_;
  size_t written_ = 0;
  bool shaken_ = false;
};

} // namespace

caf::expected<fetched> fetch(const target& to, std::string_view method, std::string_view path,
                             std::string_view body, std::chrono::milliseconds timeout) {
  boost::asio::io_context io;
  errand run{io, to, with_body(request_head(to, method, path, "*/*"), body)};
  io.run_for(timeout);
  if (!run.failure.empty())
    return caf::make_error(ec::not_found,
                           std::string{method} + " " + std::string{path} + ": " + run.failure);
  return std::move(run.result);
}

} // namespace troupe::load_test
