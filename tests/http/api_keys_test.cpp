#include <catch2/catch.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "troupe/config/error.hpp"
#include "troupe/http/api_keys.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace std::chrono_literals;

namespace {

struct key_file {
  std::string path =
      (std::filesystem::temp_directory_path() / ("troupe-keys-" + std::to_string(::getpid())))
          .string();
  explicit key_file(std::string_view text) { std::ofstream{path} << text; }
  ~key_file() { std::remove(path.c_str()); }
};

std::string complaint(std::string_view text) {
  key_file file{text};
  auto read = read_api_keys(file.path);
  REQUIRE(!read);
  CHECK(code_of(read.error()) == ec::bad_option);
  return text_of(read.error());
}

key_ring ring_of(std::initializer_list<std::string_view> lines) {
  std::vector<api_key> keys;
  for (auto line : lines)
    keys.push_back(*parse_api_key(line));
  return key_ring{keys};
}

} // namespace

TEST_CASE("a file holds a key per line, with name and rate", "[http][api_keys]") {
  key_file file{"# who may\n\n  sk-one name=alice rate=10/s\r\nsk-two rate=0.5/m\nsk-three\n"};
  auto keys = read_api_keys(file.path);
  REQUIRE(keys);
  REQUIRE(keys->size() == 3);
  CHECK((*keys)[0].secret == "sk-one");
  CHECK((*keys)[0].name == "alice");
  CHECK((*keys)[0].rate->requests == 10);
  CHECK((*keys)[0].rate->seconds == 1);
  CHECK((*keys)[1].rate->seconds == 60);
  CHECK(!(*keys)[2].rate);
}

TEST_CASE("a bad key file is told by its line and without its keys", "[http][api_keys]") {
  for (auto bad : {"a\nsk-secret rate=10", "a\nsk-secret rate=-1/s", "a\nsk-secret half",
                   "a\nsk-secret rate=1/d", "a\nsk-secret name=", "sk-secret\nsk-secret",
                   "a\nsk-secret rate=nan/s"}) {
    CAPTURE(bad);
    auto text = complaint(bad);
    CHECK(text.find(":2: ") != std::string::npos);
    CHECK(text.find("sk-secret") == std::string::npos);
    CHECK(text.find("half") == std::string::npos);
  }
  CHECK(complaint("# nothing\n").find("holds no key") != std::string::npos);
  CHECK(!read_api_keys("/no/such/file"));
}

TEST_CASE("a ring knows its keys and no others", "[http][api_keys]") {
  CHECK(key_ring{}.empty());
  auto ring = ring_of({"sk-one name=alice", "sk-two"});
  CHECK(ring.find("sk-one") == 0);
  CHECK(ring.find("sk-two") == 1);
  CHECK(ring.name(0) == "alice");
  CHECK(ring.name(1) == "key 2");
  for (auto other : {"", "sk-", "sk-one ", "SK-ONE", "alice"})
    CHECK(!ring.find(other));
}

TEST_CASE("a key's rate allows a burst and then what flows in", "[http][api_keys]") {
  auto ring = ring_of({"a rate=2/s", "b", "c rate=0.5/s"});
  key_ring::clock::time_point now{1h};
  CHECK(ring.spend(0, now) == 0ms);
  CHECK(ring.spend(0, now) == 0ms);
  CHECK(ring.spend(0, now) == 500ms);
  CHECK(ring.spend(0, now + 400ms) == 100ms);
  CHECK(ring.spend(0, now + 500ms) == 0ms);
  CHECK(ring.spend(0, now + 500ms) > 0ms);
  // A rest fills it again, but no further.
  now += 1h;
  CHECK(ring.spend(0, now) == 0ms);
  CHECK(ring.spend(0, now) == 0ms);
  CHECK(ring.spend(0, now) > 0ms);
  for (int i = 0; i < 1000; ++i)
    CHECK(ring.spend(1, now) == 0ms);
  CHECK(ring.spend(2, now) == 0ms);
  CHECK(ring.spend(2, now) == 2000ms);
}

TEST_CASE("keys that want to run at once alternate", "[http][api_keys]") {
  auto ring = ring_of({"a", "b"});
  for (uint64_t i = 0; i < 100; ++i)
    CHECK(ring.next_turn(0) == i);
  ring.began(31);
  // The newcomer's first goes before all of the other's that have not begun, and then by turns.
  CHECK(ring.next_turn(1) == 31);
  CHECK(ring.next_turn(1) == 32);
  CHECK(ring.next_turn(0) == 100);
  ring.began(500);
  ring.began(400);
  // Nobody saves up turns by staying away.
  CHECK(ring.next_turn(1) == 500);
}
