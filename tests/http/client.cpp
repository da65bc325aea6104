#include "client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace troupe::test {

std::string answer::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name)
      return value;
  return {};
}

client::client(uint16_t port, int receive_buffer) {
  socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
  if (receive_buffer > 0)
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  timeval limit{10, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
    throw std::runtime_error("cannot connect");
}

client::~client() {
  if (socket_ >= 0)
    ::close(socket_);
}

void client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    auto n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0)
      return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

bool client::fill() {
  char chunk[16384];
  auto n = ::recv(socket_, chunk, sizeof chunk, 0);
  if (n <= 0)
    return false;
  buffer_.append(chunk, static_cast<size_t>(n));
  return true;
}

std::optional<std::string> client::line() {
  for (;;) {
    auto end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      auto out = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return out;
    }
    if (!fill())
      return std::nullopt;
  }
}

bool client::take(size_t count, std::string& to) {
  while (buffer_.size() < count)
    if (!fill())
      return false;
  to.append(buffer_, 0, count);
  buffer_.erase(0, count);
  return true;
}

std::optional<answer> client::receive() {
  answer out;
  auto status = line();
  if (!status || status->size() < 12)
    return std::nullopt;
  out.status = std::stoi(status->substr(9, 3));
  out.reason = status->size() > 13 ? status->substr(13) : "";
  size_t length = 0;
  bool sized = false;
  for (;;) {
    auto header = line();
    if (!header)
      return std::nullopt;
    if (header->empty())
      break;
    auto colon = header->find(": ");
    auto name = header->substr(0, colon);
    for (auto& c : name)
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    auto value = header->substr(colon + 2);
    if (name == "content-length") {
      length = std::stoul(value);
      sized = true;
    }
    out.chunked = out.chunked || (name == "transfer-encoding" && value == "chunked");
    out.headers.emplace_back(std::move(name), std::move(value));
  }
  if (out.status == 100)
    return out;
  if (!out.chunked) {
    if (sized)
      return take(length, out.body) ? std::optional{out} : std::nullopt;
    while (fill()) {
    }
    out.body = std::exchange(buffer_, {});
    return out;
  }
  for (;;) {
    auto size = line();
    if (!size)
      return std::nullopt;
    auto count = std::stoul(*size, nullptr, 16);
    std::string end;
    if (!take(count, out.body) || !take(2, end))
      return std::nullopt;
    if (count == 0)
      return out;
  }
}

std::string client::receive_some() {
  if (buffer_.empty())
    fill();
  return std::exchange(buffer_, {});
}

bool client::closed_by_server() {
  char chunk[16384];
  ssize_t n = 0;
  do
    n = ::recv(socket_, chunk, sizeof chunk, 0);
  while (n > 0);
  return n == 0 || errno == ECONNRESET;
}

void client::finish_sending() {
  ::shutdown(socket_, SHUT_WR);
}

void client::reset() {
  linger now{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ::close(std::exchange(socket_, -1));
}

std::string post_bytes(std::string_view path, std::string_view body, std::string_view headers) {
  std::string out = "POST ";
  out.append(path).append(" HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
  out.append(headers).append("content-length: ").append(std::to_string(body.size()));
  out.append("\r\n\r\n").append(body);
  return out;
}

std::optional<answer> client::post(std::string_view path, std::string_view body,
                                   std::string_view headers) {
  send(post_bytes(path, body, headers));
  return receive();
}

std::optional<answer> client::get(std::string_view path, std::string_view headers) {
  std::string out = "GET ";
  out.append(path).append(" HTTP/1.1\r\nhost: x\r\n").append(headers).append("\r\n");
  send(out);
  return receive();
}

} // namespace troupe::test
