#pragma once

#include <cstddef>

#include "troupe/models/cpu/elementwise.hpp"
#include "troupe/models/cpu/kernels/table.hpp"

namespace troupe::models::cpu {

/// out = act(x), or act(x) * up where `up` is not null, by the table's kernel where it has one.
void activate_row(const kernel_table& kernels, activation_kind kind, const float* x,
                  const float* up, size_t width, float* out);

} // namespace troupe::models::cpu
