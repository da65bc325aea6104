#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "troupe/http/message.hpp"

namespace troupe::http {

/// Reads one HTTP/1.x request out of bytes as they come. Beast's parser is inside.
class request_reader {
public:
  enum class status : uint8_t {
    more,   ///< Feed again when more bytes are there.
    header, ///< The header is complete; feed on for the body.
    done,   ///< `take` gives the request.
    bad,    ///< Not HTTP.
    header_too_long,
    body_too_long,
  };

  struct result {
    status state = status::more;
    size_t consumed = 0; ///< Bytes of the input that are used up.
  };

  request_reader(size_t header_limit, uint64_t body_limit);
  ~request_reader();
  request_reader(request_reader&&) noexcept;
  request_reader& operator=(request_reader&&) noexcept;

  /// Reports `header` once, then `done`. After an error only destruction is left.
  result feed(std::string_view bytes);

  /// Valid from `header` on.
  bool expects_continue() const;
  bool keep_alive() const;
  bool http_1_0() const;

  /// What is known of the request so far, without its body; for errors. Empty when it is broken.
  request head() const;

  /// @pre `done` was reported. nullopt when the target makes no sense.
  std::optional<request> take();

private:
  struct parser;
  std::unique_ptr<parser> parser_;
};

} // namespace troupe::http
