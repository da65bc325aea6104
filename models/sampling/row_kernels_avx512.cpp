#define TROUPE_LANES 16
#define TROUPE_TABLE avx512_kernels
#define TROUPE_TABLE_NAME "avx512"
#include "troupe/models/sampling/row_kernels_impl.hpp"
