# CUDA without CMake's CUDA language, which wants a system toolkit: nvcc of `make cuda`'s unpacked
# wheels compiles each .cu by a command of its own. Where it is missing the build is CPU-only.
#
# Gives TROUPE_CUDA, the target cuda::runtime (headers, static runtime) and
# troupe_cuda_objects(NAME SOURCES ... [FLAGS ...]): a static library of compiled .cu files.
set(TROUPE_CUDA_ROOT ${CMAKE_SOURCE_DIR}/.cache/third_party/cuda-13.0 CACHE PATH
    "Folder of the CUDA toolkit 13: bin/nvcc, include, lib")
option(TROUPE_CUDA_REQUIRED "Fail where the CUDA toolkit is missing" OFF)
find_program(TROUPE_NVCC nvcc PATHS ${TROUPE_CUDA_ROOT}/bin NO_DEFAULT_PATH)
if(TROUPE_NVCC AND NOT TROUPE_SANITIZE)
  set(TROUPE_CUDA ON)
else()
  set(TROUPE_CUDA OFF)
  if(TROUPE_CUDA_REQUIRED)
    message(FATAL_ERROR "there is no nvcc in ${TROUPE_CUDA_ROOT}/bin: run `make cuda`")
  endif()
  message(STATUS "CUDA: off (no nvcc in ${TROUPE_CUDA_ROOT}/bin, or a sanitizer is on)")
  return()
endif()
message(STATUS "CUDA: ${TROUPE_NVCC}")

add_library(cuda::runtime INTERFACE IMPORTED)
target_include_directories(cuda::runtime SYSTEM INTERFACE ${TROUPE_CUDA_ROOT}/include)
target_link_libraries(cuda::runtime INTERFACE ${TROUPE_CUDA_ROOT}/lib/libcudart_static.a
                      Threads::Threads ${CMAKE_DL_LIBS} rt)

# Machine code for A100 and Hopper, and PTX that newer chips compile at start.
set(TROUPE_CUDA_FLAGS
  -std=c++20 -O3 --expt-relaxed-constexpr -Xcompiler=-fPIC,-Wall,-Wextra -Werror=all-warnings
  -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a
  -gencode=arch=compute_90,code=compute_90
  CACHE STRING "Flags of nvcc")

function(troupe_cuda_objects name)
  cmake_parse_arguments(arg "" "" "SOURCES;FLAGS" ${ARGN})
  set(objects)
  foreach(source ${arg_SOURCES})
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}/${source}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${TROUPE_NVCC} ${TROUPE_CUDA_FLAGS} ${arg_FLAGS} -I${TROUPE_INCLUDE_DIR}
              -MD -MF ${object}.d -MT ${object} -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      MAIN_DEPENDENCY ${CMAKE_CURRENT_SOURCE_DIR}/${source} DEPENDS ${TROUPE_NVCC}
      DEPFILE ${object}.d COMMENT "Building CUDA object ${source}.o" VERBATIM COMMAND_EXPAND_LISTS)
    list(APPEND objects ${object})
  endforeach()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_library(${name} STATIC ${objects})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(${name} PUBLIC ${TROUPE_INCLUDE_DIR})
  target_link_libraries(${name} PUBLIC cuda::runtime)
endfunction()
