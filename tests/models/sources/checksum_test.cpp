#include <catch2/catch.hpp>

#include "../temporary_folder.hpp"
#include "troupe/models/sources/checksum.hpp"

using namespace troupe::models;
using namespace troupe::test;

TEST_CASE("a file is held to SHA-256 or to Git's name of it", "[models][checksum]") {
  temporary_folder folder;
  folder.write("a", "hello\n");
  auto good = [&](std::string_view etag) {
    auto result = has_checksum(folder / "a", etag);
    REQUIRE(result);
    return *result;
  };
  // sha256sum, git hash-object
  CHECK(good("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"));
  CHECK(good("ce013625030ba8dba906f756967f9e9ca394464a"));
  CHECK(!good("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be04"));
  CHECK(!good("ce013625030ba8dba906f756967f9e9ca394464b"));
  CHECK(good("some-other-kind-of-tag"));
  CHECK(!has_checksum(folder / "missing", "ce013625030ba8dba906f756967f9e9ca394464a"));
  CHECK(sha256_of("hello\n") == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
}
