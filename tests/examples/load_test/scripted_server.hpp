#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

namespace troupe::load_test::test {

/// A server that sends given bytes in answer to whatever comes, in pieces of a given size, and then
/// keeps the connection or closes it.
class scripted_server {
public:
  struct script {
    std::string answer;
    size_t piece = 1 << 20;
    bool closes = true;        ///< After each answer.
    bool closes_first = false; ///< Without an answer.
  };

  explicit scripted_server(script s) : script_{std::move(s)} {
    thread_ = std::jthread{[this] { serve(); }};
  }
  ~scripted_server() {
    stopping_ = true;
    boost::asio::io_context io;
    boost::system::error_code ignored;
    boost::asio::ip::tcp::socket wake{io};
    wake.connect(acceptor_.local_endpoint(), ignored);
  }

  uint16_t port() const { return acceptor_.local_endpoint().port(); }
  int connections() const { return connections_; }

private:
  using tcp = boost::asio::ip::tcp;

  void serve() {
    while (!stopping_) {
      boost::system::error_code error;
      tcp::socket socket{io_};
      acceptor_.accept(socket, error);
      if (stopping_ || error)
        return;
      ++connections_;
      do
        answer(socket);
      while (!script_.closes && socket.is_open() && !stopping_);
    }
  }

  void answer(tcp::socket& socket) {
    boost::system::error_code error;
    std::string request;
    auto head =
        boost::asio::read_until(socket, boost::asio::dynamic_buffer(request), "\r\n\r\n", error);
    if (error)
      return socket.close(), void();
    auto length = request.find("Content-Length: ");
    auto body = length == std::string::npos ? 0 : std::stoul(request.substr(length + 16));
    while (request.size() < head + body && !error) {
      char more[4096];
      auto n = socket.read_some(boost::asio::buffer(more), error);
      request.append(more, n);
    }
    if (script_.closes_first)
      return socket.close(), void();
    socket.set_option(tcp::no_delay{true}, error);
    for (size_t at = 0; at < script_.answer.size() && !error; at += script_.piece)
      boost::asio::write(socket, boost::asio::buffer(script_.answer.substr(at, script_.piece)),
                         error);
  }

  script script_;
  boost::asio::io_context io_;
  tcp::acceptor acceptor_{io_, {boost::asio::ip::address_v4::loopback(), 0}};
  std::atomic<bool> stopping_{false};
  std::atomic<int> connections_{0};
  std::jthread thread_;
};

} // namespace troupe::load_test::test
