#include <catch2/catch.hpp>

#include "troupe/models/sources/hub_listing.hpp"

using namespace troupe;
using namespace troupe::models;

namespace {

const std::string commit(40, 'a');

std::string listing_of(const std::string& files) {
  return R"({"sha": ")" + commit + R"(", "siblings": [)" + files + "]}";
}

std::string named(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names)
    out += (out.empty() ? "" : ",") + (R"({"rfilename": ")" + name + R"("})");
  return listing_of(out);
}

std::vector<std::string> wanted(const std::vector<std::string>& names) {
  auto listing = parse_listing(named(names));
  REQUIRE(listing);
  auto files = wanted_files(*listing, "org/name");
  if (!files)
    FAIL(text_of(files.error()));
  std::vector<std::string> out;
  for (const auto& file : *files)
    out.push_back(file.path);
  return out;
}

using texts = std::vector<std::string>;

} // namespace

TEST_CASE("a listing gives commit, checksums and sizes", "[models][hub_listing]") {
  auto listing = parse_listing(listing_of(
      R"({"rfilename": "config.json", "size": 5, "blobId": "b1"},
         {"rfilename": "model.safetensors", "size": 1, "blobId": "b2",
          "lfs": {"sha256": "5a", "size": 7}},
         {"rfilename": "README.md"})"));
  REQUIRE(listing);
  CHECK(listing->commit == commit);
  REQUIRE(listing->files.size() == 3);
  CHECK(listing->files[0].etag == "b1");
  CHECK(listing->files[0].size == 5);
  CHECK(listing->files[1].etag == "5a");
  CHECK(listing->files[1].size == 7);
  CHECK(listing->files[2].etag.empty());
}

TEST_CASE("a hostile or broken listing is refused", "[models][hub_listing]") {
  for (const std::string& bad :
       {std::string{}, std::string{"[]"}, std::string{"<html>"}, std::string{R"({"sha": "main"})"},
        R"({"sha": ")" + commit + R"("})", named({"../../etc/passwd"}), named({"/etc/passwd"}),
        named({"a/../../b"}), named({""}), named({"a\\\\b"})}) {
    INFO(bad);
    auto listing = parse_listing(bad);
    REQUIRE(!listing);
    CHECK(code_of(listing.error()) == ec::bad_model);
  }
  // A checksum that is no file name is not used as one.
  auto listing = parse_listing(listing_of(R"({"rfilename": "a", "blobId": "../../x"})"));
  REQUIRE(listing);
  CHECK(listing->files[0].etag.empty());
}

TEST_CASE("a server wants weights once, configuration and tokenizer", "[models][hub_listing]") {
  CHECK(wanted({".gitattributes", "README.md", "config.json", "model.safetensors",
                "pytorch_model.bin", "onnx/model.onnx", "original/model.safetensors",
                "tokenizer.json", "run.py", "consolidated.safetensors"}) ==
        texts{"config.json", "model.safetensors", "tokenizer.json"});
  CHECK(wanted({"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                "model.safetensors.index.json"})
            .size() == 3);
  CHECK(wanted({"pytorch_model.bin", "config.json", "model.ckpt"}) ==
        texts{"pytorch_model.bin", "config.json"});
  CHECK(wanted({"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin",
                "pytorch_model.bin.index.json"})
            .size() == 3);
  CHECK(wanted({"model-00001-of-00001.safetensors", "model.safetensors",
                "model.safetensors.index.json"}) == texts{"model.safetensors"});
}

TEST_CASE("a repository without weights that are read is refused before anything is fetched",
          "[models][hub_listing]") {
  auto listing = parse_listing(named({"config.json", "tf_model.h5"}));
  REQUIRE(listing);
  auto files = wanted_files(*listing, "org/name");
  REQUIRE(!files);
  CHECK(code_of(files.error()) == ec::unsupported_model);
  CHECK(text_of(files.error()).find("org/name") != std::string::npos);
}
