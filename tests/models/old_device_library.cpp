// A library as an earlier build might have left it.
#include "troupe/models/device_library.hpp"

extern "C" const troupe::models::device_entry* troupe_cuda_entry() {
  static const troupe::models::device_entry table{.abi = troupe::models::device_abi - 1,
                                                  .build = "another",
                                                  .devices = nullptr,
                                                  .make_backend = nullptr,
                                                  .working_bytes = nullptr};
  return &table;
}
