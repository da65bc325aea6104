#pragma once

#include <string_view>

namespace troupe::config {

/// Whether `key` is a setting of LMI or DJL Serving that is not in the option table: it has no
/// effect here, but nobody has misspelt it.
bool is_lmi_key(std::string_view key);

} // namespace troupe::config
