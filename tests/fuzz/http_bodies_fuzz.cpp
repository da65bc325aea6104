#include <algorithm>
#include <cstdlib>
#include <string>

#include "troupe/http/json/value.hpp"
#include "troupe/http/request_reader.hpp"
#include "troupe/http/router.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

/// A status that the contract knows, and a body that says what is wrong.
void check(const reply& answer) {
  if (answer.status < 200 || answer.status > 599 || answer.status == 500)
    std::abort();
  if (answer.status >= 400 && answer.body.empty())
    std::abort();
}

} // namespace

/// Raw bytes as a client sends them, through reader, router and every dialect's codec. The first
/// byte says how they are cut on their way.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const front_state state;
  if (size == 0)
    return 0;
  const size_t step = 1 + data[0];
  std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  request_reader reader{32 * 1024, 1 << 20};
  // What the reader leaves is shown to it again with more behind it, as a connection does.
  for (size_t begin = 0, end = 0; begin < bytes.size();) {
    end = std::min(bytes.size(), std::max(end, begin) + step);
    auto chunk = bytes.substr(begin, end - begin);
    auto result = reader.feed(chunk);
    if (result.consumed > chunk.size())
      std::abort();
    begin += result.consumed;
    switch (result.state) {
    case request_reader::status::bad:
    case request_reader::status::header_too_long:
    case request_reader::status::body_too_long:
      reader.head();
      return 0;
    case request_reader::status::done: {
      auto request = reader.take();
      if (!request)
        return 0;
      admit(state.settings, *request);
      auto out = route(state, *request);
      if (auto* answer = std::get_if<reply>(&out))
        check(*answer);
      else if (auto* job = std::get_if<generation_job>(&out);
               job != nullptr && (job->requests.empty() || !job->writer))
        std::abort();
      return 0;
    }
    case request_reader::status::more:
    case request_reader::status::header:
      if (result.consumed == 0 && end == bytes.size())
        return 0;
    }
  }
  return 0;
}
