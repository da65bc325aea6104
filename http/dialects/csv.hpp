#pragma once

#include <string_view>
#include <variant>

#include "troupe/http/dialects/fields.hpp"

namespace troupe::http {

/// The inputs in a text/csv body (contract http.md §4.2): its first row names the columns, of which
/// one must contain `inputs`, `question` or `context`. With an `inputs` column the texts in it,
/// else one object per row. Quoted fields may hold separators, line breaks and doubled quotes.
std::variant<json::value, problem> read_csv(std::string_view body);

/// Appends a field, in quotes where it needs them.
void append_csv(std::string& out, std::string_view field);

} // namespace troupe::http
