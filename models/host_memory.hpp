#pragma once

#include <cstdint>

namespace troupe::models {

/// Bytes that the system could give us now without swapping, the control group's limit respected.
uint64_t available_memory();

/// Processors that this process may run on, at least 1.
unsigned usable_processors();

} // namespace troupe::models
