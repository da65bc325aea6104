#include <filesystem>

#include <catch2/catch.hpp>

#include "../temporary_folder.hpp"
#include "packing.hpp"
#include "troupe/models/sources/archive.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::test;

namespace {

namespace fs = std::filesystem;
using form = packed_entry::form;

struct fixture {
  temporary_folder folder;

  caf::error unpack(const std::string& name, const archive_limits& limits = {}) {
    return unpack_archive(folder / name, folder / "out", limits, {}, {});
  }

  /// Packs the entries, and says why they are refused.
  std::string refusal(const std::vector<packed_entry>& entries, const archive_limits& limits = {}) {
    pack(folder / "bad.tar", entries);
    auto problem = unpack("bad.tar", limits);
    REQUIRE(problem);
    CHECK(code_of(problem) == ec::bad_model);
    CHECK(!fs::exists(folder / "out"));
    return text_of(problem);
  }
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE_METHOD(fixture, "archives of every form give their files back", "[models][archive]") {
  auto name = GENERATE("a.zip", "a.tar", "a.tar.gz", "a.tgz");
  INFO(name);
  std::string long_text(3 << 20, 'x');
  pack(folder / name, {{"config.json", "{}"},
                       {"sub", "", form::folder},
                       {"sub/deep/weights", long_text},
                       {"./plain", "p"},
                       {"__MACOSX/junk", "j"},
                       {"sub/._junk", "j"},
                       {"\xc3\xa9.txt", "e"}});
  auto problem = unpack(name);
  INFO(text_of(problem));
  REQUIRE(!problem);
  CHECK(folder.read("out/config.json") == "{}");
  CHECK(folder.read("out/sub/deep/weights") == long_text);
  CHECK(folder.read("out/plain") == "p");
  CHECK(folder.read("out/\xc3\xa9.txt") == "e");
  CHECK(!fs::exists(folder / "out/__MACOSX"));
  CHECK(!fs::exists(folder / "out/sub/._junk"));
}

TEST_CASE_METHOD(fixture, "nothing is written outside of the folder", "[models][archive]") {
  CHECK(has(refusal({{"../evil", "x"}}), "outside"));
  CHECK(has(refusal({{"a/../../evil", "x"}}), "outside"));
  CHECK(has(refusal({{"/tmp/troupe-evil", "x"}}), "outside"));
  CHECK(has(refusal({{"a\\..\\evil", "x"}}), "outside"));
  CHECK(!fs::exists(folder / "evil"));
  CHECK(!fs::exists("/tmp/troupe-evil"));
}

TEST_CASE_METHOD(fixture, "links and devices are refused", "[models][archive]") {
  CHECK(
      has(refusal({{"out", "", form::symlink, "/etc"}, {"out/passwd", "x"}}), "the link \"out\""));
  CHECK(has(refusal({{"a", "x"}, {"b", "", form::hardlink, "/etc/passwd"}}), "the link \"b\""));
  CHECK(has(refusal({{"pipe", "", form::fifo}}), "neither a file nor a folder"));
}

TEST_CASE_METHOD(fixture, "what unpacks to too much is refused before it is written",
                 "[models][archive]") {
  archive_limits small;
  small.bytes = 1000;
  CHECK(has(refusal({{"a", std::string(600, 'x')}, {"b", std::string(600, 'x')}}, small),
            "too much"));
  small.bytes = 1 << 20;
  small.entries = 2;
  CHECK(has(refusal({{"a", "x"}, {"b", "x"}, {"c", "x"}}, small), "more than 2 entries"));
}

TEST_CASE_METHOD(fixture, "a size in a header is not believed for writing", "[models][archive]") {
  // A tar header by hand: name, mode, size (octal, 8 GiB), checksum, type.
  std::string block(1024, '\0');
  auto put = [&](size_t at, const std::string& text) { block.replace(at, text.size(), text); };
  put(0, "weights");
  put(100, "0000644");
  put(124, "77777777777");
  put(148, "        ");
  put(156, "0");
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i)
    sum += static_cast<unsigned char>(block[i]);
  char digits[8];
  std::snprintf(digits, sizeof(digits), "%06o", sum);
  put(148, digits);
  folder.write("claim.tar", block);
  auto problem = unpack("claim.tar");
  REQUIRE(problem);
  INFO(text_of(problem));
  CHECK(has(text_of(problem), "too much"));
}

TEST_CASE_METHOD(fixture, "a bomb is told by how much it expands", "[models][archive]") {
  pack(folder / "bomb.tar.gz", {{"zeros", std::string(100 << 20, '\0')}});
  auto problem = unpack("bomb.tar.gz");
  REQUIRE(problem);
  CHECK(has(text_of(problem), "too much"));
  CHECK(!fs::exists(folder / "out"));
}

TEST_CASE_METHOD(fixture, "one file twice is refused", "[models][archive]") {
  CHECK(has(refusal({{"a", "x"}, {"./a", "y"}}), "twice"));
}

TEST_CASE_METHOD(fixture, "what is no archive, or a damaged one, is refused", "[models][archive]") {
  folder.write("bad.zip", "this is no archive");
  CHECK(code_of(unpack("bad.zip")) == ec::bad_model);
  folder.write("empty.tar", "");
  CHECK(code_of(unpack("empty.tar")) == ec::bad_model);
  pack(folder / "whole.tar.gz", {{"weights", std::string(1 << 20, 'w') + "tail"}});
  auto bytes = folder.read("whole.tar.gz");
  for (auto share : {0.3, 0.6, 0.95}) {
    folder.write("cut.tar.gz",
                 bytes.substr(0, static_cast<size_t>(static_cast<double>(bytes.size()) * share)));
    INFO(share);
    CHECK(code_of(unpack("cut.tar.gz")) == ec::bad_model);
    CHECK(!fs::exists(folder / "out"));
  }
}

TEST_CASE_METHOD(fixture, "a stop ends unpacking and leaves nothing", "[models][archive]") {
  pack(folder / "a.tar", {{"a", "x"}});
  std::stop_source stop;
  stop.request_stop();
  auto problem = unpack_archive(folder / "a.tar", folder / "out", {}, {}, stop.get_token());
  CHECK(code_of(problem) == ec::cancelled);
  CHECK(!fs::exists(folder / "out"));
}

TEST_CASE_METHOD(fixture, "an archive is unpacked once, and again when it has changed",
                 "[models][archive]") {
  fs::path cache = folder / "cache";
  pack(folder / "model.tar.gz", {{"config.json", "1"}});
  auto first = unpacked(folder / "model.tar.gz", cache, {}, {});
  REQUIRE(first);
  fs::remove(*first / "config.json");
  auto again = unpacked(folder / "model.tar.gz", cache, {}, {});
  REQUIRE(again);
  CHECK(*again == *first);
  CHECK(fs::is_empty(*again));
  pack(folder / "model.tar.gz", {{"config.json", "second"}});
  auto changed = unpacked(folder / "model.tar.gz", cache, {}, {});
  REQUIRE(changed);
  CHECK(*changed != *first);
  CHECK(fs::exists(*changed / "config.json"));
}
