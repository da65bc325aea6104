#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test {

const char* name_of(outcome o) {
  switch (o) {
  case outcome::ok:
    return "ok";
  case outcome::refused:
    return "refused";
  case outcome::http_error:
    return "http_error";
  case outcome::connect_failed:
    return "connect_failed";
  case outcome::connection_lost:
    return "connection_lost";
  case outcome::malformed:
    return "malformed";
  case outcome::stream_error:
    return "stream_error";
  case outcome::timed_out:
    return "timed_out";
  case outcome::cancelled:
    return "cancelled";
  case outcome::count:
    break;
  }
  return "unknown";
}

} // namespace troupe::load_test
