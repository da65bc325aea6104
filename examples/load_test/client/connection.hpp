#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "troupe/examples/load_test/client/answer_parser.hpp"
#include "troupe/examples/load_test/client/byte_stream.hpp"
#include "troupe/examples/load_test/dialects/dialect.hpp"
#include "troupe/examples/load_test/load/recorder.hpp"

namespace troupe::load_test {

/// The run's clock: nanoseconds since its zero.
struct run_clock {
  std::chrono::steady_clock::time_point zero = std::chrono::steady_clock::now();

  nanoseconds now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() -
                                                                zero)
        .count();
  }
  std::chrono::steady_clock::time_point at(nanoseconds t) const {
    return zero + std::chrono::nanoseconds{t};
  }
};

/// How a client misbehaves in one exchange; by default not at all.
struct manners {
  uint32_t cancel_after = 0;                ///< Tokens after which the connection is closed.
  std::optional<uint32_t> half_close_after; ///< Tokens after which our side is closed; 0: at once.
  uint32_t read_bytes_per_s = 0;            ///< 0 = as fast as it can.

  bool plain() const { return cancel_after == 0 && !half_close_after && read_bytes_per_s == 0; }
};

/// What became of an exchange.
struct exchange_result {
  request_end end;
  std::string text;      ///< The output, if wanted.
  bool reusable = false; ///< The connection takes another request.
};

class exchange_observer {
public:
  virtual void tokens(uint32_t count, nanoseconds now) = 0;
  /// The last call for this exchange; the connection may be given another one in it.
  virtual void ended(nanoseconds now, exchange_result result) = 0;

protected:
  ~exchange_observer() = default;
};

/// What the connections of one worker share. One thread.
struct client_context {
  boost::asio::io_context& io;
  const target& to;
  const dialect& speaks;
  run_clock clock;
  std::vector<char> scratch = std::vector<char>(read_size + json_padding);
  static constexpr size_t read_size = size_t{64} << 10;
};

/// One connection to the server, one exchange at a time. Connects when it has to; a kept connection
/// that the server closed before a byte of the answer came is opened again, once.
class connection final : public std::enable_shared_from_this<connection>, answer_parts {
public:
  explicit connection(client_context& context);

  /// Sends a request and tells `observer` what comes. @pre No exchange is under way.
  void start(std::string request, bool wants_text, manners behaves, exchange_observer& observer);

  /// Ends the exchange under way from our side.
  void abort(outcome how, std::string why);

  /// Kept open from an earlier exchange, as far as one can know.
  bool alive() { return stream_.is_open() && stream_.quiet(); }

private:
  void connect();
  void shake_hands();
  void write();
  void read();
  void read_slowly();
  void wait_read();
  template <class F>
  void wait_for(byte_stream::status s, F next);
  void got(size_t bytes);
  void got_end();
  void lost(outcome how, std::string why);
  void end(request_end how, bool reusable);
  void maybe_half_close();

  void header(uint16_t status, std::string_view content_type) override;
  void body(std::string_view bytes) override;

  client_context& context_;
  byte_stream stream_;
  answer_reader reader_;
  std::optional<answer_parser> parser_;
  boost::asio::steady_timer pace_;
  exchange_observer* observer_ = nullptr;
  std::string request_;
  size_t written_ = 0;
  std::string unparsed_; ///< What came and is not yet enough for a header or a chunk's head.
  manners behaves_;
  uint64_t exchange_ = 0; ///< Tells late handlers that their exchange is over.
  nanoseconds now_ = 0;   ///< When the bytes at hand came.
  uint32_t tokens_ = 0;
  bool wants_text_ = false;
  bool reused_ = false;   ///< The exchange began on a kept connection.
  bool answered_ = false; ///< A byte of the answer has come.
  bool half_closed_ = false;
};

} // namespace troupe::load_test
