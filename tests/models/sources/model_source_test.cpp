#include <filesystem>

#include <catch2/catch.hpp>

#include "../temporary_folder.hpp"
#include "packing.hpp"
#include "troupe/models/sources/hub.hpp"
#include "troupe/models/sources/model_source.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::test;

namespace {

namespace fs = std::filesystem;

struct fixture {
  temporary_folder folder;
  source_options options;

  fixture() {
    options.unpack_folder = folder / "unpacked";
    options.hub_cache = folder / "hub";
    options.offline = true;
  }

  fs::path fetch(const std::string& url) {
    auto path = fetch_model(url, options, {}, {});
    INFO(url);
    if (!path)
      FAIL(text_of(path.error()));
    return *path;
  }

  ec refusal(const std::string& url) {
    auto path = fetch_model(url, options, {}, {});
    INFO(url);
    REQUIRE(!path);
    return code_of(path.error());
  }

  void write(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path{folder / name}.parent_path());
    folder.write(name, text);
  }
};

} // namespace

TEST_CASE_METHOD(fixture, "a folder is where it is", "[models][model_source]") {
  write("m/config.json", "{}");
  write("m/x", "");
  CHECK(fetch(folder / "m") == folder / "m");
  CHECK(fetch("file:" + (folder / "m")) == folder / "m");
  CHECK(fetch("file://" + (folder / "m")) == folder / "m");
  CHECK(fetch("FILE://localhost" + (folder / "m")) == folder / "m");
  fs::rename(folder / "m", folder / "m n");
  CHECK(fetch("file://" + (folder / "m%20n")) == folder / "m n");
}

TEST_CASE_METHOD(fixture, "a folder of one folder stands for that", "[models][model_source]") {
  write("m/inner/config.json", "{}");
  write("m/inner/x", "");
  CHECK(fetch(folder / "m") == folder / "m/inner");
  write("m/serving.properties", "");
  CHECK(fetch(folder / "m") == folder / "m");
}

TEST_CASE_METHOD(fixture, "an archive is unpacked, also one in a folder",
                 "[models][model_source]") {
  fs::create_directories(folder / "m");
  pack(folder / "m/model.zip", {{"inner/config.json", "{}"}, {"inner/x", "x"}});
  auto direct = fetch(folder / "m/model.zip");
  CHECK(direct.filename() == "inner");
  CHECK(fs::exists(direct / "config.json"));
  CHECK(fetch(folder / "m") == direct);
}

TEST_CASE_METHOD(fixture, "what cannot be fetched is refused with a code for it",
                 "[models][model_source]") {
  CHECK(refusal(folder / "missing") == ec::model_not_found);
  CHECK(refusal("file://elsewhere/x") == ec::model_not_found);
  CHECK(refusal("s3://bucket/model") == ec::unsupported_model);
  CHECK(refusal("djl://ai.djl.zoo/x") == ec::unsupported_model);
  CHECK(refusal("http://127.0.0.1/model.bin") == ec::unsupported_model);
  CHECK(refusal("http://127.0.0.1:9/model.zip") == ec::unreachable);
  write("weights.bin", "x");
  CHECK(refusal(folder / "weights.bin") == ec::bad_model);
}

TEST_CASE("ids of the hub are told from paths", "[models][model_source]") {
  for (auto good : {"gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b.c_d"})
    CHECK(is_hub_id(good));
  for (auto bad :
       {"", "/models/x", "a/b/c", "./x", "../x", "a/", "/b", "a b", "a/..", "~x", "a--b/c"})
    CHECK(!is_hub_id(bad));
}

TEST_CASE_METHOD(fixture, "the cache of the hub is used as huggingface_hub lays it out",
                 "[models][model_source]") {
  const std::string commit(40, 'c');
  const auto snapshot = "hub/models--org--name/snapshots/" + commit;
  CHECK(refusal("org/name") == ec::model_not_found);
  write(snapshot + "/config.json", "{}");
  write("hub/models--org--name/refs/main", commit);
  CHECK(refusal("org/name") == ec::model_not_found); // no weights yet
  write(snapshot + "/model.safetensors.index.json",
        R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  write(snapshot + "/model-1.safetensors", "x");
  CHECK(refusal("org/name") == ec::model_not_found); // one is missing
  write(snapshot + "/model-2.safetensors", "x");
  CHECK(fetch("org/name") == folder / snapshot);
  options.revision = commit;
  CHECK(fetch("org/name") == folder / snapshot);
  options.offline = false; // a commit never changes: nobody is asked
  options.hub_endpoint = "http://127.0.0.1:9";
  CHECK(fetch("org/name") == folder / snapshot);
  options.revision = ""; // nobody answers: the cache does, with a word about it
  std::string told;
  options.warn = [&](const std::string& sentence) { told = sentence; };
  CHECK(fetch("org/name") == folder / snapshot);
  CHECK(told.find("may be out of date") != std::string::npos);
  options.revision = "other";
  CHECK(refusal("org/name") == ec::unreachable);
  options.revision = "../../x";
  CHECK(refusal("org/name") == ec::bad_option);
}
