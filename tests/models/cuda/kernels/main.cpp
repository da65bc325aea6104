#include <cstring>

#include "support.hpp"

/// Tests of the CUDA kernels against references in double precision. Exit codes: 0 all passed, 1
/// some failed, 2 a CUDA call failed, 77 there is no GPU.
int main(int argc, char** argv) {
  using namespace troupe::test;
  bool small = false;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--small") == 0) {
      small = true;
    } else if (std::strcmp(argv[i], "--help") == 0 || argv[i][0] == '-') {
      std::printf("usage: %s [--small] [SECTION]\n"
                  "Runs the CUDA kernels on random data and compares with references in fp64.\n"
                  "  --small   sizes that suit compute-sanitizer\n"
                  "  SECTION   only sections whose name holds this\n",
                  argv[0]);
      return std::strcmp(argv[i], "--help") == 0 ? 0 : 2;
    } else {
      only = argv[i];
    }
  }
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no GPU here\n");
    return 77;
  }
  bench_place place;
  TROUPE_MUST(cudaSetDevice(0));
  TROUPE_MUST(query_device(0, place.on.device));
  TROUPE_MUST(cudaStreamCreateWithFlags(&place.on.stream, cudaStreamNonBlocking));
  report r(small);
  const struct {
    const char* name;
    void (*run)(report&, const bench_place&);
  } sections[] = {{"products", test_products},
                  {"quantized products", test_quantized},
                  {"norms", test_norms},
                  {"elementwise", test_elementwise},
                  {"loading", test_loading},
                  {"rotation", test_rotation},
                  {"decode attention", test_decode_attention},
                  {"prefill attention", test_prefill_attention},
                  {"sampling", test_sampling},
                  {"gemm library", test_gemm_library}};
  for (const auto& s : sections) {
    if (std::string{s.name}.find(only) == std::string::npos)
      continue;
    r.begin(s.name);
    s.run(r, place);
    place.wait();
    r.end();
  }
  TROUPE_MUST(cudaStreamDestroy(place.on.stream));
  std::printf("%s\n", r.failures() == 0 ? "all passed" : "SOME FAILED");
  return r.failures() == 0 ? 0 : 1;
}
