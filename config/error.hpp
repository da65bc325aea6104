#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <caf/error.hpp>
#include <caf/expected.hpp>
#include <caf/make_message.hpp>

namespace troupe {

/// Every way in which Troupe says no. The HTTP statuses beside them are the OpenAI ones; the LMI
/// routes map them in `http/` (contract http.md §1, §4.6). The context of a `caf::error` made from
/// one of these is one string: what went wrong, where, and what to do about it.
enum class ec : uint8_t {
  none = 0,
  invalid_request,   ///< 400: malformed or out-of-range input; context names the field.
  prompt_too_long,   ///< 400: the prompt does not fit the context.
  unauthorized,      ///< 401
  not_found,         ///< 404: no such route.
  model_not_found,   ///< 404
  request_timeout,   ///< 408: the deadline passed.
  payload_too_large, ///< 413
  queue_full,        ///< 429/503: try again later.
  slot_timeout,      ///< 400 (LMI): no free batch slot within predict_timeout.
  model_not_ready,   ///< 503: loading, failed or reloading.
  shutting_down,     ///< 503
  cancelled,         ///< the client left; nobody reads this one.
  slow_reader,       ///< the client did not read for chunked_read_timeout.
  row_fault,         ///< 500/424: this request's row failed; neighbours go on.
  step_fault,        ///< 500: a step failed; its rows are retried in halves.
  device_lost,       ///< 500: a shard died; its sequences are replayed.
  out_of_memory,     ///< 507
  bad_model,         ///< load: the folder is unusable; context says why.
  unsupported_model, ///< load: architecture or feature that Troupe lacks.
  bad_option,        ///< start: a setting is unknown or out of range.
  template_failed,   ///< 400/424: the chat template raised.
  name_taken,        ///< 409: a model of that name and version is registered already.
  no_workers,        ///< 503: the model was scaled to no workers.
  unreachable,       ///< an engine in another process is not there, or no longer.
  internal,          ///< 500: our own fault.
};

/// The enumerator's name, e.g. "queue_full"; stable, used as the OpenAI `code`.
std::string_view to_string_view(ec code);
std::string to_string(ec code);

} // namespace troupe

CAF_ERROR_CODE_ENUM(troupe::ec, "troupe")

namespace troupe {

/// The code of `err`, or `ec::internal` when it is not one of ours.
ec code_of(const caf::error& err);

/// The human-readable sentence in `err`: our context text, or CAF's rendering of a foreign error.
std::string text_of(const caf::error& err);

} // namespace troupe
