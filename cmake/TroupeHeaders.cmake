# Headers that nearly every file reads, compiled once: CAF's cost some two seconds a file. g++ only
# takes the result where the options are the same, so libraries and tests have one each; for clang,
# whose fuzz targets build little, there is none, which also shows includes that are missing.
option(TROUPE_PRECOMPILED_HEADERS "Compile CAF's and the standard library's headers once" ON)
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(TROUPE_PRECOMPILED_HEADERS OFF)
endif()
set(troupe_common_headers
  <algorithm> <array> <atomic> <charconv> <chrono> <cmath> <cstdint> <cstring> <deque> <filesystem> <functional> <limits>
  <map> <memory> <mutex> <optional> <set> <span> <string> <string_view> <thread> <tuple> <unordered_map> <utility>
  <variant> <vector> <caf/all.hpp>)
set(troupe_no_source ${CMAKE_BINARY_DIR}/no_source.cpp)
file(CONFIGURE OUTPUT ${troupe_no_source} CONTENT "")

# troupe_headers(name LINKS ... [HEADERS ...]): a target that others take precompiled headers from.
function(troupe_headers name)
  cmake_parse_arguments(arg "" "" "LINKS;HEADERS" ${ARGN})
  if(NOT TROUPE_PRECOMPILED_HEADERS)
    return()
  endif()
  add_library(${name} OBJECT ${troupe_no_source})
  target_link_libraries(${name} PRIVATE ${arg_LINKS})
  target_precompile_headers(${name} PRIVATE ${troupe_common_headers} ${arg_HEADERS})
  troupe_warnings(${name})
endfunction()

function(troupe_use_headers target from)
  if(TROUPE_PRECOMPILED_HEADERS)
    target_precompile_headers(${target} REUSE_FROM ${from})
    # g++ 12 no longer knows what it inlines from them for the system's, and raises its false alarms
    # about strings (GCC bug 105651).
    target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
  endif()
endfunction()

troupe_headers(library_headers LINKS caf::core)
