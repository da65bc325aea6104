#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// A client that can misbehave: sends bytes, reads answers.
namespace troupe::test {

struct answer {
  int status = 0;
  std::string reason;
  std::vector<std::pair<std::string, std::string>> headers; ///< Names in lower case.
  std::string body;                                         ///< Chunks joined.
  bool chunked = false;

  /// Empty when absent.
  std::string header(std::string_view name) const;
};

class client {
public:
  /// @param receive_buffer Bytes the kernel may hold for a reader that does not read; 0 = its
  /// choice.
  explicit client(uint16_t port, int receive_buffer = 0);
  ~client();
  client(client&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  client(const client&) = delete;

  void send(std::string_view bytes);
  /// Reads one answer; nullopt when the connection ends before, or after ten seconds.
  std::optional<answer> receive();
  /// Whatever comes next; empty at the end of the connection or after ten seconds.
  std::string receive_some();
  /// true when the server closes within ten seconds, whatever it sends before.
  bool closed_by_server();
  /// Says that nothing more will be sent.
  void finish_sending();
  /// Ends the connection with a reset.
  void reset();

  std::optional<answer> post(std::string_view path, std::string_view body,
                             std::string_view headers = "");
  std::optional<answer> get(std::string_view path, std::string_view headers = "");

private:
  bool fill();
  std::optional<std::string> line();
  bool take(size_t count, std::string& to);

  int socket_ = -1;
  std::string buffer_;
};

/// A POST request with a JSON body, as bytes.
std::string post_bytes(std::string_view path, std::string_view body, std::string_view headers = "");

} // namespace troupe::test
