#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "troupe/actors/generation.hpp"
#include "troupe/http/dialects/fields.hpp"
#include "troupe/http/json/value.hpp"
#include "troupe/http/settings.hpp"

/// What all dialects share: a body goes in, requests and a writer for their answer come out. No
/// actor and no socket in here.
namespace troupe::http {

/// Turns a request's events into body bytes. Used by one thread at a time.
class answer_writer {
public:
  virtual ~answer_writer() = default;

  /// true: bytes leave as they become ready; false: one body when everything is there.
  virtual bool streams() const = 0;
  virtual std::string_view content_type() const = 0;

  /// Takes what happened to the `part`-th request of the job and appends what can be sent now.
  /// After a failure or the last part's `complete` it is not called again.
  virtual void take(size_t part, event_batch& events, std::string& out) = 0;

  /// Streams only: appends an error, framed like the rest, after bytes have left.
  /// @param object The error as a JSON object.
  virtual void fail(std::string_view object, std::string& out) = 0;
};

/// Whose error bodies a route answers with.
enum class error_style : uint8_t { lmi, openai, tgi, pipeline };

/// A parsed generation request: one entry per prompt of it, one writer for all.
struct generation_job {
  std::vector<generation_request> requests;
  std::unique_ptr<answer_writer> writer;
  error_style errors = error_style::lmi;
  std::vector<std::string> warnings;
  /// Of the model that it is for; null: the server's.
  std::shared_ptr<const dialect_settings> settings{};
  std::optional<size_t> key{}; ///< The API key that it came with.
  bool asynchronous = false;   ///< The answer is kept for later (x-synchronous: false).
};

using parsed_job = std::variant<generation_job, problem>;

/// What a dialect knows beside the body.
struct job_context {
  const dialect_settings& settings;
  std::string id{};      ///< Of the request; names the answer too.
  std::string model{};   ///< Named by route, query or header; empty = the only one.
  std::string version{}; ///< Empty = any.
  int32_t priority = 3;
  bool v1_route = false;    ///< /v1/*: OpenAI's rules rather than LMI's.
  bool accepts_sse = false; ///< Accept contains text/event-stream.
  bool accepts_csv = false; ///< Accept contains text/csv and not */*.
  std::string server{};     ///< The program and its version, for OpenAI's system_fingerprint.
};

/// The body's "model", where it selects one: on OpenAI's routes, unless query or header named one
/// already. Clients of a single model send placeholders ("tgi", "dummy" by huggingface_hub), which
/// count as no name.
std::string named_model(const job_context& context, std::string_view in_body);

/// A request with everything that does not come from the body.
generation_request make_request(const job_context& context);

/// "chatcmpl-" or "cmpl-" and 24 random hexadecimal digits.
std::string answer_id(std::string_view prefix);

/// Seconds since 1970.
int64_t unix_time();

/// A seed for a request that brings none.
uint64_t fresh_seed();

} // namespace troupe::http
