#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <caf/error.hpp>

#include "troupe/http/dialects/dialect.hpp"
#include "troupe/http/message.hpp"

/// The one place where errors become statuses and bodies (contract http.md §1, §4.6, §5.3).
namespace troupe::http {

/// The LMI body of everything that fails outside the handler: pretty-printed
/// {"code", "type", "message"} with a trailing newline.
reply lmi_error(int status, std::string_view type, std::string_view message);

/// OpenAI's error object; `type` follows from the status.
reply openai_error(int status, std::string_view code, std::string_view message,
                   std::string_view parameter = {});

/// TGI's object: {"error", "error_type"}.
reply tgi_error(int status, std::string_view type, std::string_view message);

/// What the front end itself refuses, in the form of `style`.
/// @param code Told to OpenAI's clients; TGI's are told "validation".
/// @param type Told to LMI's.
reply refusal(error_style style, int status, std::string_view code, std::string_view type,
              std::string_view message, std::string_view parameter = {});

/// A body or parameter that the dialect refuses: 424 "Input Parsing failed. ...", OpenAI's 400 or
/// TGI's 422.
reply problem_reply(error_style style, const problem& why);

/// An error of the engine, before any byte of the answer has left.
/// @param model The name that the request used, for messages.
reply error_reply(error_style style, const dialect_settings& settings, std::string_view model,
                  const caf::error& why);

/// Whether the model failed at its work, rather than refused it.
bool is_model_failure(ec code);

/// The JSON object that ends a stream after bytes have left.
std::string stream_error(error_style style, const dialect_settings& settings,
                         std::string_view model, const caf::error& why);

/// No such route.
reply unknown_route(error_style style);

/// 401. @param given There was a key, but nobody knows it.
reply unauthorized_reply(error_style style, bool given);

/// 429: a key's rate is used up. @param wait Until one more request is allowed.
reply too_many_reply(error_style style, std::chrono::milliseconds wait);

/// {"status": text}, pretty-printed as above.
reply status_reply(std::string_view text);

} // namespace troupe::http
