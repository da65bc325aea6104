#pragma once

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

/// A body or parameter that the dialect refuses: 424 "Input Parsing failed. ..." or OpenAI's 400.
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

/// {"status": text}, pretty-printed as above.
reply status_reply(std::string_view text);

} // namespace troupe::http
