# troupe_test(name SOURCES ... LINKS ... [TIMEOUT seconds] [NO_TSAN]): a Catch2 program, one ctest
# entry per test case. NO_TSAN: not under the thread sanitizer, which misjudges what it cannot see
# inside of Debian's libraries (CAF with threads of its own).
find_package(Catch2 2.13 REQUIRED)
include(Catch)
# Tests are built without optimisation: they compile twice as fast and run for moments.
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(TROUPE_TEST_OPTIONS -O0)
endif()
add_library(catch_main STATIC ${CMAKE_SOURCE_DIR}/tests/catch_main.cpp)
target_link_libraries(catch_main PUBLIC Catch2::Catch2)

troupe_headers(test_headers LINKS caf::core Catch2::Catch2 HEADERS <catch2/catch.hpp>)
if(TARGET test_headers)
  # As CMake compiles programs, and as the tests are below.
  set_target_properties(test_headers PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(test_headers PRIVATE -fPIE ${TROUPE_TEST_OPTIONS})
endif()

# All test programs: what the thread sanitizer's preset builds, and nothing beside them.
add_custom_target(test_programs)

set(TROUPE_GOLDEN_DIR ${CMAKE_SOURCE_DIR}/tests/golden)

function(troupe_test name)
  cmake_parse_arguments(arg "NO_TSAN" "TIMEOUT" "SOURCES;LINKS" ${ARGN})
  if(arg_NO_TSAN AND TROUPE_SANITIZE MATCHES "thread")
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(TROUPE_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 10")
  endif()
  set(properties TIMEOUT ${arg_TIMEOUT})
  add_executable(${name} ${arg_SOURCES})
  add_dependencies(test_programs ${name})
  target_link_libraries(${name} PRIVATE catch_main ${arg_LINKS})
  target_compile_definitions(${name} PRIVATE TROUPE_GOLDEN_DIR="${TROUPE_GOLDEN_DIR}"
                             TROUPE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  troupe_warnings(${name})
  target_compile_options(${name} PRIVATE ${TROUPE_TEST_OPTIONS})
  troupe_use_headers(${name} test_headers)
  catch_discover_tests(${name} TEST_PREFIX "${name}: " PROPERTIES ${properties})
endfunction()
