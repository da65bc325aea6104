#include "troupe/examples/load_test/mock/server.hpp"

#include <atomic>
#include <chrono>
#include <optional>
#include <queue>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <sys/prctl.h>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/mock/answers.hpp"
#include "troupe/examples/load_test/random.hpp"

namespace troupe::load_test {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using clock = std::chrono::steady_clock;

constexpr size_t read_size = size_t{64} << 10;
constexpr uint64_t longest_body = uint64_t{64} << 20;
constexpr nanoseconds no_request_yet = INT64_MIN;

/// What all threads share.
struct common {
  mock_settings settings;
  clock::time_point zero = clock::now();
  std::atomic<nanoseconds> first_request{no_request_yet};
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> running{0};

  nanoseconds now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - zero).count();
  }
  nanoseconds due(nanoseconds base, nanoseconds delta) const {
    return after_pause(base, delta, first_request.load() + settings.pause_at, settings.pause_for);
  }
};

class client;

/// Writes tokens when they are due, for all clients of one thread.
class ticker {
public:
  ticker(asio::io_context& io, common& shared) : timer_{io}, shared_{shared} {}
  void schedule(nanoseconds due, std::shared_ptr<client> who, uint64_t answer);

private:
  struct entry {
    nanoseconds due;
    uint64_t answer;
    std::shared_ptr<client> who;
    bool operator<(const entry& other) const { return due > other.due; }
  };

  void run();
  void arm();

  asio::steady_timer timer_;
  common& shared_;
  std::priority_queue<entry> entries_;
  nanoseconds armed_for_ = INT64_MAX;
};

/// One connection.
class client : public std::enable_shared_from_this<client> {
public:
  client(tcp::socket socket, common& shared, ticker& ticks, std::vector<char>& scratch)
      : socket_{std::move(socket)}, shared_{shared}, ticks_{ticks}, scratch_{scratch} {
    boost::system::error_code ignored;
    socket_.set_option(tcp::no_delay{true}, ignored);
    socket_.non_blocking(true, ignored);
  }
  ~client() { leave(); }

  void wait_read() {
    socket_.async_wait(tcp::socket::wait_read,
                       [self = shared_from_this()](boost::system::error_code error) {
                         if (!error)
                           self->read();
                       });
  }

  /// A token, or the whole answer, is due.
  void due(nanoseconds when, uint64_t answer) {
    if (answer != answer_number_ || !busy_ || !socket_.is_open())
      return;
    if (!answer_.streams) {
      send(head(answer_.body.size()) + answer_.body);
      return done();
    }
    if (sent_tokens_ == 0)
      send(head(std::nullopt));
    ++sent_tokens_;
    auto last = sent_tokens_ >= answer_.output_tokens;
    // OpenAI's last event has no token, the one of LMI and TGI has.
    auto last_has_token = answer_.last.find("\"token\"") != std::string::npos;
    if (!last || !last_has_token)
      send(answer_.event);
    if (fails_ && shared_.settings.error_status == 0)
      return close();
    if (last) {
      send(answer_.last);
      return done();
    }
    ticks_.schedule(shared_.due(when, varied(shared_.settings.itl)), shared_from_this(), answer);
  }

private:
  void read() {
    boost::system::error_code error;
    auto bytes = socket_.read_some(asio::buffer(scratch_.data(), read_size), error);
    if (error == asio::error::would_block)
      return wait_read();
    // The end of what the client sends counts as the end of the client.
    if (error || bytes == 0)
      return close();
    pending_.append(scratch_.data(), bytes);
    if (!busy_)
      parse();
    if (socket_.is_open())
      wait_read();
  }

  void parse() {
    if (!parser_) {
      parser_.emplace();
      parser_->body_limit(longest_body);
      parser_->eager(true);
    }
    boost::beast::error_code error;
    auto used = parser_->put(asio::buffer(pending_), error);
    pending_.erase(0, used);
    if (error && error != http::error::need_more)
      return close();
    if (!parser_->is_done())
      return;
    auto request = parser_->release();
    parser_.reset();
    begin(request);
  }

  void begin(const http::request<http::string_body>& request) {
    auto now = shared_.now();
    auto& settings = shared_.settings;
    auto method = request.method_string();
    auto path = request.target();
    answer_ = answer_to({method.data(), method.size()}, {path.data(), path.size()}, request.body(),
                        settings.output_tokens, shared_.running.load());
    keep_alive_ = request.keep_alive();
    busy_ = true;
    ++answer_number_;
    sent_tokens_ = 0;
    if (request.method() != http::verb::post || path.ends_with("/tokenize")) {
      send(head(answer_.body.size()) + answer_.body);
      return done(false);
    }
    auto none = no_request_yet;
    shared_.first_request.compare_exchange_strong(none, now);
    random_ = random_source{settings.seed ^ mix(shared_.requests++)};
    ++shared_.running;
    fails_ = random_.uniform() < settings.error_share;
    if (fails_ && settings.error_status != 0) {
      answer_ = {};
      answer_.status = settings.error_status;
      answer_.body = R"({"error":{"message":"an error that was ordered","type":"mock"}})";
    }
    auto delta = varied(settings.ttft);
    if (answer_.generates && !answer_.streams)
      for (uint32_t i = 1; i < answer_.output_tokens; ++i)
        delta += varied(settings.itl);
    ticks_.schedule(shared_.due(now, delta), shared_from_this(), answer_number_);
  }

  nanoseconds varied(nanoseconds mean) {
    auto by = shared_.settings.jitter;
    if (by == 0)
      return mean;
    return std::max<nanoseconds>(
        0, mean + static_cast<nanoseconds>((2 * random_.uniform() - 1) * static_cast<double>(by)));
  }

  std::string head(std::optional<size_t> length) const {
    std::string out = "HTTP/1.1 " + std::to_string(answer_.status) + " Mock\r\nContent-Type: ";
    out.append(answer_.content_type).append("\r\n");
    if (!keep_alive_)
      out += "Connection: close\r\n";
    return out +
           (length ? "Content-Length: " + std::to_string(*length) : "Transfer-Encoding: chunked") +
           "\r\n\r\n";
  }

  void send(std::string_view bytes) {
    boost::system::error_code error;
    size_t sent = 0;
    if (unsent_.empty())
      sent = socket_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
    if (error && error != asio::error::would_block)
      return close();
    if (sent == bytes.size())
      return;
    auto waits = !unsent_.empty();
    unsent_.append(bytes.substr(sent));
    if (!waits)
      wait_write();
  }

  void wait_write() {
    socket_.async_wait(tcp::socket::wait_write,
                       [self = shared_from_this()](boost::system::error_code error) {
                         if (!error)
                           self->flush();
                       });
  }

  void flush() {
    boost::system::error_code error;
    auto sent = socket_.write_some(asio::buffer(unsent_), error);
    if (error && error != asio::error::would_block)
      return close();
    unsent_.erase(0, sent);
    if (!unsent_.empty())
      wait_write();
    else if (!busy_ && !keep_alive_)
      close();
  }

  void done(bool counted = true) {
    busy_ = false;
    if (counted)
      --shared_.running;
    if (!keep_alive_) {
      if (unsent_.empty())
        close();
    } else if (!pending_.empty()) {
      parse();
    }
  }

  void leave() {
    if (busy_)
      --shared_.running;
    busy_ = false;
  }

  void close() {
    leave();
    boost::system::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
  }

  tcp::socket socket_;
  common& shared_;
  ticker& ticks_;
  std::vector<char>& scratch_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::string pending_; ///< Came, and is not yet parsed.
  std::string unsent_;
  mock_answer answer_;
  random_source random_{0};
  uint64_t answer_number_ = 0;
  uint32_t sent_tokens_ = 0;
  bool busy_ = false;
  bool fails_ = false;
  bool keep_alive_ = true;
};

void ticker::schedule(nanoseconds due, std::shared_ptr<client> who, uint64_t answer) {
  entries_.push({due, answer, std::move(who)});
  arm();
}

void ticker::arm() {
  if (entries_.empty() || entries_.top().due >= armed_for_)
    return;
  armed_for_ = entries_.top().due;
  timer_.expires_at(shared_.zero + std::chrono::nanoseconds{armed_for_});
  timer_.async_wait([this](boost::system::error_code error) {
    if (!error)
      run();
  });
}

void ticker::run() {
  // Nothing that `due` schedules may arm the timer before this round is through.
  armed_for_ = INT64_MIN;
  constexpr int most_at_once = 64; // then new requests get their turn
  for (int i = 0; i < most_at_once && !entries_.empty() && entries_.top().due <= shared_.now();
       ++i) {
    auto next = entries_.top();
    entries_.pop();
    next.who->due(next.due, next.answer);
  }
  armed_for_ = INT64_MAX;
  arm();
}

/// One thread, its clients, its clock.
struct lane {
  explicit lane(common& shared) : ticks{io, shared} {}
  asio::io_context io{1};
  ticker ticks;
  std::vector<char> scratch = std::vector<char>(read_size);
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
};

} // namespace

class mock_server::impl {
public:
  explicit impl(const mock_settings& settings) : shared_{settings} {
    for (uint32_t i = 0; i < settings.threads; ++i)
      lanes_.push_back(std::make_unique<lane>(shared_));
    acceptor_.emplace(lanes_.front()->io);
  }

  ~impl() {
    for (auto& l : lanes_)
      l->io.stop();
    threads_.clear();
  }

  /// Empty when it listens.
  std::string listen(uint16_t port) {
    boost::system::error_code error;
    tcp::endpoint where{asio::ip::address_v4::loopback(), port};
    acceptor_->open(where.protocol(), error);
    if (!error)
      acceptor_->set_option(tcp::acceptor::reuse_address{true}, error);
    if (!error)
      acceptor_->bind(where, error);
    if (!error)
      acceptor_->listen(tcp::acceptor::max_listen_connections, error);
    if (error)
      return error.message();
    port_ = acceptor_->local_endpoint(error).port();
    accept();
    for (auto& l : lanes_)
      threads_.emplace_back([&io = l->io] {
        // The kernel may else put a thread's timers off by 50 us to wake it less often.
        prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
        io.run();
      });
    return {};
  }

  uint16_t port() const { return port_; }
  uint64_t requests() const { return shared_.requests.load(); }

private:
  void accept() {
    auto& to = *lanes_[next_++ % lanes_.size()];
    acceptor_->async_accept(
        to.io, [this, &to](boost::system::error_code error, tcp::socket socket) {
          if (error == asio::error::operation_aborted)
            return;
          if (!error) {
            auto c = std::make_shared<client>(std::move(socket), shared_, to.ticks, to.scratch);
            asio::post(to.io, [c] { c->wait_read(); });
          }
          accept();
        });
  }

  common shared_;
  std::vector<std::unique_ptr<lane>> lanes_;
  std::optional<tcp::acceptor> acceptor_;
  size_t next_ = 0;
  uint16_t port_ = 0;
  std::vector<std::jthread> threads_;
};

caf::expected<std::unique_ptr<mock_server>> mock_server::start(const mock_settings& settings,
                                                               uint16_t port) {
  auto inside = std::make_unique<impl>(settings);
  if (auto why = inside->listen(port); !why.empty())
    return caf::make_error(
        ec::bad_option, "the mock cannot listen on 127.0.0.1:" + std::to_string(port) + ": " + why);
  return std::unique_ptr<mock_server>{new mock_server{std::move(inside)}};
}

mock_server::mock_server(std::unique_ptr<impl> inside) : impl_{std::move(inside)} {}
mock_server::~mock_server() = default;

uint16_t mock_server::port() const {
  return impl_->port();
}

uint64_t mock_server::requests() const {
  return impl_->requests();
}

} // namespace troupe::load_test
