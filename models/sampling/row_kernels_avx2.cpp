#define TROUPE_LANES 8
#define TROUPE_TABLE avx2_kernels
#define TROUPE_TABLE_NAME "avx2"
#include "troupe/models/sampling/row_kernels_impl.hpp"
