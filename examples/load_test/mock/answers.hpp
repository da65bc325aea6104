#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::load_test {

/// What the built-in server says to one request: made up front, so that a token costs a write.
struct mock_answer {
  uint16_t status = 200;
  bool streams = false;
  bool generates = false; ///< Takes the time of its tokens; else it is answered after `ttft`.
  uint32_t output_tokens = 0;
  std::string_view content_type = "application/json";
  std::string_view event; ///< One token of a stream, as a chunk.
  std::string last;       ///< After the last token, as chunks; the end of the body included.
  std::string body;       ///< Of an answer that does not stream.
};

/// @param default_tokens Of requests that do not say how many they want.
/// @param running        For the gauge on /metrics.
mock_answer answer_to(std::string_view method, std::string_view path, std::string_view body,
                      uint32_t default_tokens, uint64_t running);

/// `text` as one chunk of HTTP/1.1's chunked coding.
std::string chunk(std::string_view text);

} // namespace troupe::load_test
