#pragma once

#include <filesystem>
#include <string>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/load/arrivals.hpp"

namespace troupe::load_test {

/// A recorded load, one request a line, in one of these forms:
///   12.5            seconds, perhaps followed by input and output tokens (spaces or commas
///   between) 2023-11-16 18:15:46.68,374,44     a date (Azure's traces; a header line is skipped)
///   {"timestamp": 12500, "input_length": 374, "output_length": 44}    milliseconds (Mooncake's)
/// Entries are sorted, and the first is at 0. Errors: ec::bad_option with the line.
caf::expected<trace_ptr> open_trace(const std::filesystem::path& file);

/// As above from the text itself; `name` is for messages.
caf::expected<trace_ptr> parse_trace(const std::string& text, const std::string& name);

} // namespace troupe::load_test
