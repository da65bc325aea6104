#include "troupe/models/device_library.hpp"

#include <catch2/catch.hpp>

#include "temporary_folder.hpp"

using namespace troupe;
using namespace troupe::models;
using troupe::test::temporary_folder;

namespace {

std::string problem_with(const std::string& path) {
  auto opened = open_device_library(path);
  REQUIRE_FALSE(opened);
  CHECK(code_of(opened.error()) == ec::bad_option);
  return text_of(opened.error());
}

} // namespace

TEST_CASE("a library that is not ours is refused, and why is said", "[models][device_library]") {
  CHECK(problem_with("/no/such/library.so").find("cannot be loaded") != std::string::npos);
  temporary_folder folder;
  folder.write("text.so", "no library");
  CHECK(problem_with(folder / "text.so").find("cannot be loaded") != std::string::npos);
  CHECK(problem_with(TROUPE_STRANGE_LIBRARY).find("has no troupe_cuda_entry") != std::string::npos);
  CHECK(problem_with(TROUPE_OLD_LIBRARY).find("belongs to another build") != std::string::npos);
}

TEST_CASE("a device is described in one line", "[models][device_library]") {
  CHECK(describe({.ordinal = 1,
                  .name = "GPU X",
                  .total_bytes = uint64_t{80} << 30,
                  .free_bytes = uint64_t{79} << 30,
                  .major = 9,
                  .minor = 0,
                  .multiprocessors = 132}) ==
        "GPU 1: GPU X, compute capability 9.0, 79.0 of 80.0 GiB free");
}
