#include "troupe/http/connection.hpp"

#include <algorithm>

#include <boost/asio/error.hpp>

#include "troupe/config/error.hpp"

namespace troupe::http {

namespace {

constexpr size_t header_chunk = 8 * 1024;
constexpr size_t body_chunk = 64 * 1024;
/// A client that sends more at once lets others go first.
constexpr int reads_in_a_row = 16;
/// Pipelined requests wait while so much of earlier answers is unsent.
constexpr size_t output_mark = 256 * 1024;
/// Credit is reported in portions of this size, because a message per token would cost more.
constexpr uint32_t credit_portion = 32 * 1024;
/// Buffers larger than this are given back after use.
constexpr size_t kept_capacity = 64 * 1024;
/// Progress of a body that counts as such; a byte now and then does not.
constexpr size_t body_progress = 1024;
constexpr std::chrono::milliseconds linger_time{2000};

} // namespace

connection::connection(std::shared_ptr<front_end> front, const std::shared_ptr<io_loop>& loop,
                       const listener_traits& traits, stream_socket socket, std::string remote)
    : front_(std::move(front)), role_(traits.role), loop_(loop), remote_(std::move(remote)),
      transport_(std::move(socket), traits.tls), timer_(loop->context) {
  front_->open.fetch_add(1, std::memory_order_relaxed);
  front_->state->counters.connections.add();
  front_->state->counters.open_connections.add(1);
}

connection::~connection() {
  front_->open.fetch_sub(1, std::memory_order_relaxed);
  front_->state->counters.open_connections.add(-1);
}

void connection::start() {
  expect_within(front_->state->settings.header_timeout);
  on_readable();
}

// -- reading -------------------------------------------------------------------------------------

size_t connection::read_room() const {
  auto held = input_.size() - input_begin_;
  auto limit = front_->state->settings.max_header_bytes;
  switch (phase_) {
  case phase::header:
    // One byte more than allowed, so that the parser sees the excess.
    return held > limit ? 0 : std::min(header_chunk, limit + 1 - held);
  case phase::body:
  case phase::lingering:
    return body_chunk;
  case phase::answering:
    return held >= limit ? 0 : std::min(header_chunk, limit - held);
  case phase::closed:
    return 0;
  }
  return 0;
}

void connection::wait_readable() {
  if (std::exchange(reading_, true))
    return;
  transport_.wait_readable([self = shared_from_this()](boost::system::error_code error) {
    self->reading_ = false;
    if (!error)
      self->on_readable();
  });
}

void connection::on_readable() {
  if (reading_)
    return;
  auto keep = shared_from_this();
  for (int i = 0; i < reads_in_a_row; ++i) {
    auto room = read_room();
    if (room == 0 || gone_)
      return;
    auto held = input_.size();
    input_.resize(held + room);
    auto got = transport_.read(input_.data() + held, room);
    input_.resize(held + got.bytes);
    switch (got.state) {
    case transport::status::ok:
      if (phase_ == phase::lingering)
        input_.clear();
      else
        process();
      break;
    case transport::status::want_read:
      wait_readable();
      if (!pending_.empty() || !writing_.empty())
        flush();
      return;
    case transport::status::want_write:
      if (!std::exchange(reading_, true))
        transport_.wait_writable([keep](boost::system::error_code error) {
          keep->reading_ = false;
          if (!error)
            keep->on_readable();
        });
      return;
    case transport::status::closed:
      // What was answered last may still be on its way to a client that only closed its side.
      if (phase_ == phase::lingering && (!pending_.empty() || !writing_.empty()))
        gone_ = true;
      else
        close();
      return;
    }
  }
  wait_readable();
}

void connection::process() {
  if (std::exchange(processing_, true))
    return;
  while ((phase_ == phase::header || phase_ == phase::body) && input_begin_ < input_.size() &&
         pending_.size() + writing_.size() < output_mark)
    if (!feed())
      break;
  processing_ = false;
  input_.erase(0, input_begin_);
  input_begin_ = 0;
  if (phase_ == phase::answering && input_.capacity() > input_.size() + header_chunk)
    input_.shrink_to_fit();
}

bool connection::feed() {
  const auto& settings = front_->state->settings;
  if (!reader_) {
    reader_.emplace(settings.max_header_bytes, settings.max_request_size);
    expect_within(settings.header_timeout);
  }
  auto got = reader_->feed(std::string_view{input_}.substr(input_begin_));
  input_begin_ += got.consumed;
  switch (got.state) {
  case request_reader::status::more:
    if (phase_ == phase::body) {
      body_bytes_ += got.consumed;
      if (body_bytes_ >= body_progress) {
        body_bytes_ = 0;
        expect_within(settings.body_timeout);
      }
    }
    return false;
  case request_reader::status::header:
    on_header();
    return true;
  case request_reader::status::done:
    begin_exchange();
    return true;
  case request_reader::status::header_too_long:
    refuse(431, ec::invalid_request, "BadRequestException",
           "The request header is longer than " + std::to_string(settings.max_header_bytes) +
               " bytes.");
    return false;
  case request_reader::status::body_too_long:
    refuse(413, ec::payload_too_large, "PayloadTooLargeException",
           "The request body is larger than max_request_size (" +
               std::to_string(settings.max_request_size) + " bytes).");
    return false;
  case request_reader::status::bad:
    refuse(400, ec::invalid_request, "BadRequestException", "Invalid HTTP message.");
    return false;
  }
  return false;
}

void connection::on_header() {
  if (!front_->state->keys.empty()) {
    auto head = reader_->head();
    if (auto refused = check_key(*front_->state, head))
      return refuse(std::move(head), std::move(*refused));
  }
  phase_ = phase::body;
  body_bytes_ = 0;
  expect_within(front_->state->settings.body_timeout);
  if (reader_->expects_continue()) {
    pending_ += "HTTP/1.1 100 Continue\r\n\r\n";
    flush();
  }
}

// -- writing -------------------------------------------------------------------------------------

void connection::flush() {
  auto keep = shared_from_this();
  while (!writing_wait_ && phase_ != phase::closed) {
    if (written_ == writing_.size()) {
      if (!writing_.empty()) {
        writing_.clear();
        if (writing_.capacity() > kept_capacity)
          writing_.shrink_to_fit();
        written_ = 0;
        for (auto& part : exchange_.parts)
          part.owed += std::exchange(part.leaving, 0);
        report_credit();
      }
      if (pending_.empty())
        return on_written();
      std::swap(writing_, pending_);
      for (auto& part : exchange_.parts)
        part.leaving = std::exchange(part.unsent, 0);
    }
    auto put = transport_.write(std::string_view{writing_}.substr(written_));
    switch (put.state) {
    case transport::status::ok:
      written_ += put.bytes;
      front_->state->counters.bytes_sent.add(put.bytes);
      break;
    case transport::status::want_write:
      writing_wait_ = true;
      expect_within(std::chrono::milliseconds{front_->state->settings.dialect.read_timeout_ms});
      transport_.wait_writable([keep](boost::system::error_code error) {
        keep->writing_wait_ = false;
        if (!error)
          keep->flush();
      });
      return;
    case transport::status::want_read:
      return; // Tried again when something was read.
    case transport::status::closed:
      return close();
    }
  }
}

void connection::on_written() {
  switch (phase_) {
  case phase::answering:
    // A stream whose next piece does not come is given up; what has not begun has other limits.
    if (exchange_.started)
      return expect_within(
          std::chrono::milliseconds{front_->state->settings.dialect.read_timeout_ms});
    return expect_nothing();
  case phase::lingering:
    return gone_ ? close() : linger();
  case phase::header:
    // Pipelined requests may have waited for this.
    if (!processing_ && input_begin_ < input_.size()) {
      process();
      on_readable();
    }
    return;
  default:
    return;
  }
}

void connection::report_credit() {
  for (auto& part : exchange_.parts)
    if (part.owed >= credit_portion && part.ticket)
      part.ticket->credit(std::exchange(part.owed, 0));
}

// -- time and end --------------------------------------------------------------------------------

void connection::linger() {
  // Closing with unread bytes in the socket would reset it, and the answer might be lost.
  transport_.finish_writing();
  expect_within(linger_time);
  on_readable();
}

void connection::drain() {
  if (phase_ == phase::header && !reader_ && pending_.empty() && writing_.empty())
    close();
}

void connection::close() {
  if (phase_ == phase::closed)
    return;
  phase_ = phase::closed;
  auto keep = shared_from_this();
  cancel_job();
  timer_.cancel();
  transport_.close();
  if (auto loop = loop_.lock())
    loop->connections.erase(keep);
}

void connection::expect_within(std::chrono::milliseconds limit) {
  deadline_ = clock::now() + limit;
  if (deadline_ < armed_)
    arm_timer();
}

void connection::expect_nothing() {
  deadline_ = clock::time_point::max();
}

void connection::arm_timer() {
  armed_ = deadline_;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code error) {
    if (!error)
      self->on_timer();
  });
}

void connection::on_timer() {
  armed_ = clock::time_point::max();
  if (phase_ == phase::closed || deadline_ == clock::time_point::max())
    return;
  // Deadlines mostly move away while the timer stands: it is set again only when it fires.
  if (clock::now() < deadline_)
    return arm_timer();
  if ((phase_ == phase::header && reader_) || phase_ == phase::body)
    refuse(408, ec::request_timeout, "RequestTimeoutException",
           "The request did not arrive in time.");
  else
    close();
}

} // namespace troupe::http
