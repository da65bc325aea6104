#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "troupe/http/engine_link.hpp"
#include "troupe/http/request_reader.hpp"
#include "troupe/http/router.hpp"
#include "troupe/http/transport.hpp"

namespace troupe::http {

class connection;

/// One I/O thread's event loop and the connections that live on it. Everything of a connection
/// happens on its thread, so nothing of it is locked.
struct io_loop {
  boost::asio::io_context context{1};
  std::unordered_set<std::shared_ptr<connection>> connections; ///< Owns them; this thread only.
};

/// What connections share.
struct front_end {
  std::shared_ptr<front_state> state;
  std::unique_ptr<engine_link> engine;
  boost::asio::io_context parsing; ///< Large bodies are parsed here.
  std::atomic<size_t> open{0};
};

/// What connections of one listener have in common.
struct listener_traits {
  listener_role role = listener_role::everything;
  std::shared_ptr<tls_context> tls; ///< Null: plain text.
};

/// One client. Answers its requests in their order; keeps a read pending while it answers, so that
/// a client that leaves is noticed at once.
class connection : public std::enable_shared_from_this<connection> {
public:
  connection(std::shared_ptr<front_end> front, const std::shared_ptr<io_loop>& loop,
             const listener_traits& traits, stream_socket socket, std::string remote);
  ~connection();

  /// Begins to read. On the loop's thread, as everything here.
  void start();

  /// The server drains: closes if nothing is being answered, else after the answer.
  void drain();

  /// Ends at once; the request in flight is cancelled.
  void close();

private:
  enum class phase : uint8_t { header, body, answering, lingering, closed };
  using clock = std::chrono::steady_clock;

  /// The request that is being answered.
  struct exchange {
    uint64_t number = 0; ///< Tells it from earlier ones whose answers come late.
    std::string method;
    std::string target;
    std::string id;
    bool keep_alive = true;
    bool chunked = true;       ///< false for HTTP/1.0 clients.
    bool inference = false;    ///< Answers carry `requestId`.
    bool started = false;      ///< The head of a stream has left.
    bool model_failed = false; ///< While it worked on the request.
    bool loaded = false;       ///< A model was loaded for it, or could not be.
    int failure_status = 0;    ///< What a failure would have answered, had the stream not begun.
    clock::time_point since;
    std::string model;            ///< For messages.
    std::optional<uint64_t> turn; ///< Of a key's request that has shown no sign of life yet.
    error_style errors = error_style::lmi;
    std::shared_ptr<const dialect_settings> dialect; ///< The model's; null: the server's.
    std::unique_ptr<answer_writer> writer;
    std::shared_ptr<event_port> port;
    size_t complete = 0;
    struct part {
      std::unique_ptr<engine_ticket> ticket;
      uint32_t unsent = 0;  ///< Weight in `pending_`.
      uint32_t leaving = 0; ///< Weight in `writing_`.
      uint32_t owed = 0;    ///< Weight that has left and was not reported yet.
    };
    std::vector<part> parts;
  };

  // connection.cpp: reading
  void wait_readable();
  void on_readable();
  void process();
  bool feed();
  void on_header();
  void begin_exchange();
  /// Answers what is no complete request: `code` for OpenAI's routes, `type` for the others.
  void refuse(int status, ec code, std::string_view type, std::string_view message);
  /// Answers a request whose body was not read.
  void refuse(request head, reply answer);
  size_t read_room() const;

  // connection_answer.cpp: answering
  void route_request(request given);
  void dispatch(routed what);
  void load_first_of_all(load_first what);
  void start_job(generation_job job);
  void take_events();
  bool take_batch(uint32_t part, event_batch& events);
  void fail_job(const caf::error& why);
  void stream_body();
  void send(reply answer);
  void append_head(const reply& answer, bool stream);
  void finish_exchange(int status);
  void cancel_job();
  /// Something to call from any thread, once: `f(arguments...)` then runs here, if this still
  /// lives.
  template <class F>
  auto from_elsewhere(F f);

  // connection.cpp: writing, time, end
  void flush();
  void on_written();
  void report_credit();
  void linger();
  void expect_within(std::chrono::milliseconds limit);
  void expect_nothing();
  void arm_timer();
  void on_timer();

  std::shared_ptr<front_end> front_;
  listener_role role_;
  std::weak_ptr<io_loop> loop_;
  std::string remote_;
  transport transport_;
  boost::asio::steady_timer timer_;
  clock::time_point deadline_ = clock::time_point::max();
  clock::time_point armed_ = clock::time_point::max();

  phase phase_ = phase::header;
  std::optional<request_reader> reader_;
  std::string input_; ///< Bytes not used yet, from `input_begin_`.
  size_t input_begin_ = 0;
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  uint64_t exchanges_ = 0;
  size_t body_bytes_ = 0; ///< Since the body's deadline was last moved.
  bool processing_ = false;
  bool reading_ = false; ///< A wait for readability is pending.
  bool writing_wait_ = false;
  bool gone_ = false; ///< The client closed its side while lingering.

  exchange exchange_;
  std::string scratch_; ///< Body bytes of the events at hand.
  std::string pending_; ///< To be written after `writing_`.
  std::string writing_;
  size_t written_ = 0; ///< Of `writing_`.
};

} // namespace troupe::http
