# libtorch out of the unpacked torch wheel: gives torch::cpu where `make libtorch` has put it. The CPU
# path does without (docs/decisions/0002-no-libtorch-on-the-cpu-path.md).
set(TROUPE_TORCH_ROOT ${CMAKE_SOURCE_DIR}/.cache/third_party/torch-2.11.0 CACHE PATH
    "Folder that holds torch/ and nvidia/ of the unpacked wheels")
if(NOT EXISTS ${TROUPE_TORCH_ROOT}/torch/lib/libtorch_cpu.so)
  return()
endif()
set(torch_lib ${TROUPE_TORCH_ROOT}/torch/lib)
set(cuda_lib ${TROUPE_TORCH_ROOT}/nvidia/cu13/lib)
add_library(torch::cpu INTERFACE IMPORTED)
# -idirafter: the wheel carries its own fmt, which must not shadow spdlog's.
target_compile_options(torch::cpu INTERFACE
  "SHELL:-idirafter ${TROUPE_TORCH_ROOT}/torch/include"
  "SHELL:-idirafter ${TROUPE_TORCH_ROOT}/torch/include/torch/csrc/api/include")
target_link_libraries(torch::cpu INTERFACE ${torch_lib}/libtorch_cpu.so ${torch_lib}/libc10.so)
target_link_options(torch::cpu INTERFACE -Wl,--allow-shlib-undefined
  -Wl,-rpath,${torch_lib} -Wl,-rpath,${cuda_lib} -Wl,-rpath-link,${cuda_lib} -Wl,--disable-new-dtags)
