#include "troupe/examples/load_test/client/connection.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace troupe::load_test {

namespace {

constexpr int slow_reader_buffer = 4096;
constexpr auto slow_reader_pause = std::chrono::milliseconds{100};
constexpr uint16_t first_final_status = 200;

} // namespace

connection::connection(client_context& context)
    : context_{context}, stream_{context.io, context.to}, reader_{context.speaks},
      pace_{context.io} {}

void connection::start(std::string request, bool wants_text, manners behaves,
                       exchange_observer& observer) {
  ++exchange_;
  observer_ = &observer;
  request_ = std::move(request);
  written_ = 0;
  wants_text_ = wants_text;
  behaves_ = behaves;
  tokens_ = 0;
  answered_ = half_closed_ = false;
  unparsed_.clear();
  reader_.reset();
  parser_.emplace(static_cast<answer_parts&>(*this));
  reused_ = stream_.is_open();
  if (reused_)
    write();
  else
    connect();
}

void connection::abort(outcome how, std::string why) {
  lost(how, std::move(why));
}

void connection::connect() {
  stream_.connect(behaves_.read_bytes_per_s > 0 ? slow_reader_buffer : 0,
                  [self = shared_from_this(), id = exchange_](boost::system::error_code error) {
                    if (self->exchange_ != id)
                      return;
                    if (error)
                      self->lost(outcome::connect_failed, error.message());
                    else
                      self->shake_hands();
                  });
}

template <class F>
void connection::wait_for(byte_stream::status s, F next) {
  auto resume = [self = shared_from_this(), id = exchange_, next](boost::system::error_code error) {
    if (self->exchange_ == id && !error)
      next(*self);
  };
  if (s == byte_stream::status::want_write)
    stream_.wait_writable(std::move(resume));
  else
    stream_.wait_readable(std::move(resume));
}

void connection::shake_hands() {
  auto [state, bytes] = stream_.handshake();
  if (state == byte_stream::status::ok)
    return write();
  if (state == byte_stream::status::closed || state == byte_stream::status::broken)
    return lost(outcome::connect_failed,
                stream_.why().empty() ? "closed during the TLS handshake" : stream_.why());
  wait_for(state, [](connection& c) { c.shake_hands(); });
}

void connection::write() {
  while (written_ < request_.size()) {
    auto [state, bytes] = stream_.write(std::string_view{request_}.substr(written_));
    if (state == byte_stream::status::want_write || state == byte_stream::status::want_read)
      return wait_for(state, [](connection& c) { c.write(); });
    // A server that refuses a large body answers and closes: its answer is still to be read.
    if (state != byte_stream::status::ok)
      break;
    written_ += bytes;
  }
  maybe_half_close();
  wait_read();
}

void connection::maybe_half_close() {
  if (!half_closed_ && behaves_.half_close_after && tokens_ >= *behaves_.half_close_after) {
    half_closed_ = true;
    stream_.finish_writing();
  }
}

void connection::wait_read() {
  wait_for(byte_stream::status::want_read,
           [](connection& c) { c.behaves_.read_bytes_per_s > 0 ? c.read_slowly() : c.read(); });
}

void connection::read() {
  auto id = exchange_;
  for (;;) {
    auto* to = context_.scratch.data();
    std::memcpy(to, unparsed_.data(), unparsed_.size());
    auto room = client_context::read_size - unparsed_.size();
    auto [state, bytes] = stream_.read(to + unparsed_.size(), room);
    if (state == byte_stream::status::want_read || state == byte_stream::status::want_write)
      return wait_for(state, [](connection& c) { c.read(); });
    if (state != byte_stream::status::ok)
      return got_end();
    got(bytes);
    if (exchange_ != id || !observer_)
      return;
    // Plain sockets tell when there is more; TLS may hold some that the socket does not show.
    if (bytes < room && !context_.to.tls)
      return wait_read();
  }
}

void connection::read_slowly() {
  auto* to = context_.scratch.data();
  std::memcpy(to, unparsed_.data(), unparsed_.size());
  auto share = std::max<size_t>(1, behaves_.read_bytes_per_s / 10);
  auto room = std::min(share, client_context::read_size - unparsed_.size());
  auto id = exchange_;
  auto [state, bytes] = stream_.read(to + unparsed_.size(), room);
  if (state == byte_stream::status::closed || state == byte_stream::status::broken)
    return got_end();
  if (state == byte_stream::status::ok)
    got(bytes);
  if (exchange_ != id || !observer_)
    return;
  pace_.expires_after(slow_reader_pause);
  pace_.async_wait([self = shared_from_this(), id](boost::system::error_code error) {
    if (!error && self->exchange_ == id)
      self->wait_read();
  });
}

void connection::got(size_t bytes) {
  now_ = context_.clock.now();
  answered_ = true;
  auto id = exchange_;
  const auto* data = context_.scratch.data();
  auto size = unparsed_.size() + bytes;
  size_t used = 0;
  while (used < size) {
    boost::beast::error_code error;
    auto n = parser_->put({data + used, size - used}, error);
    used += n;
    if (exchange_ != id || !observer_)
      return; // the exchange was ended out of body()
    if (error && error != boost::beast::http::error::need_more)
      return lost(outcome::malformed, "the answer is not HTTP/1.1: " + error.message());
    if (parser_->is_done()) {
      if (parser_->status() < first_final_status) {
        parser_.emplace(static_cast<answer_parts&>(*this));
        continue;
      }
      reader_.finish();
      auto keeps = parser_->keep_alive() && used == size && !half_closed_;
      auto& state = reader_.state();
      return end({reader_.verdict(), parser_->status(), state.prompt_tokens, state.output_tokens,
                  reader_.complaint()},
                 keeps);
    }
    if (error || n == 0)
      break;
  }
  unparsed_.assign(data + used, size - used);
  if (unparsed_.size() >= client_context::read_size / 2)
    return lost(outcome::malformed, "the answer has a chunk head longer than 32 KiB");
  if (reader_.verdict() == outcome::malformed || reader_.verdict() == outcome::stream_error)
    lost(reader_.verdict(), reader_.complaint());
}

void connection::got_end() {
  now_ = context_.clock.now();
  auto why = stream_.why().empty() ? std::string{"closed by the server"} : stream_.why();
  if (reused_ && !answered_) {
    reused_ = false;
    written_ = 0;
    stream_.close();
    return connect();
  }
  if (parser_->got_some() && parser_->is_header_done() && parser_->need_eof()) {
    boost::beast::error_code error;
    parser_->put_eof(error);
    if (!error) {
      reader_.finish();
      auto& state = reader_.state();
      return end({reader_.verdict(), parser_->status(), state.prompt_tokens, state.output_tokens,
                  reader_.complaint()},
                 false);
    }
  }
  lost(outcome::connection_lost,
       why + (answered_ ? " before the answer was complete" : " before it answered"));
}

void connection::header(uint16_t status, std::string_view content_type) {
  reader_.begin(status, content_type, wants_text_);
}

void connection::body(std::string_view bytes) {
  auto came = reader_.take(bytes);
  if (came == 0 || !observer_)
    return;
  tokens_ += came;
  observer_->tokens(came, now_);
  if (behaves_.cancel_after > 0 && tokens_ >= behaves_.cancel_after)
    return lost(outcome::cancelled, {});
  maybe_half_close();
}

void connection::lost(outcome how, std::string why) {
  if (!observer_)
    return;
  now_ = context_.clock.now();
  auto status = parser_ ? parser_->status() : uint16_t{0};
  const auto& state = reader_.state();
  end({how, status, state.prompt_tokens, state.output_tokens, std::move(why)}, false);
}

void connection::end(request_end how, bool reusable) {
  ++exchange_;
  if (!reusable)
    stream_.close();
  pace_.cancel();
  exchange_result result{std::move(how), wants_text_ ? reader_.take_text() : std::string{},
                         reusable};
  std::exchange(observer_, nullptr)->ended(now_, std::move(result));
}

} // namespace troupe::load_test
