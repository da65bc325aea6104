#define TROUPE_LANES 4
#define TROUPE_TABLE plain_kernels
#define TROUPE_TABLE_NAME "plain"
#include "troupe/models/sampling/row_kernels_impl.hpp"
