#include <catch2/catch.hpp>

#include <cstdint>
#include <cstring>
#include <filesystem>

#include "temporary_folder.hpp"
#include "troupe/models/loading/checkpoint.hpp"
#include "troupe/models/loading/safetensors.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::test;

namespace {

std::string with_length(uint64_t length, const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

/// A file of this header and so many bytes of data.
std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header.size(), header, data_bytes);
}

std::string problem(const std::string& bytes) {
  temporary_folder folder;
  folder.write("x.safetensors", bytes);
  auto tensors = read_safetensors(folder / "x.safetensors");
  REQUIRE(!tensors);
  CHECK(code_of(tensors.error()) == ec::bad_model);
  const auto text = text_of(tensors.error());
  CHECK(text.find("x.safetensors") != std::string::npos);
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

#define CHECK_PROBLEM(bytes, part)                                                                 \
  do {                                                                                             \
    const auto text = problem(bytes);                                                              \
    INFO(text);                                                                                    \
    CHECK(contains(text, part));                                                                   \
  } while (false)

} // namespace

TEST_CASE("a sound file gives its tensors with type, shape and bytes", "[models][safetensors]") {
  temporary_folder folder;
  folder.write(
      "x.safetensors",
      file_of(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],)"
              R"("data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},)"
              R"("empty":{"dtype":"F16","shape":[0,4],"data_offsets":[26,26]}}  )",
              26));
  auto tensors = read_safetensors(folder / "x.safetensors");
  REQUIRE(tensors);
  REQUIRE(tensors->size() == 3);
  CHECK(describe(tensors->at("a")) == "[2, 3] F32");
  CHECK(tensors->at("b").bytes == 2);
  CHECK(tensors->at("b").data()[1] == std::byte{1});
  CHECK(tensors->at("empty").bytes == 0);
}

TEST_CASE("headers that are no headers are refused", "[models][safetensors]") {
  CHECK_PROBLEM("", "shorter than a safetensors header");
  CHECK_PROBLEM("1234567", "shorter than a safetensors header");
  CHECK_PROBLEM(with_length(200'000'000, "{}", 0), "claims a header of 200000000 bytes");
  CHECK_PROBLEM(with_length(UINT64_MAX, "{}", 0), "claims a header");
  CHECK_PROBLEM(with_length(50, "{}", 0), "ends inside its header");
  CHECK_PROBLEM(file_of("", 0), "no JSON object");
  CHECK_PROBLEM(file_of("[]", 0), "no JSON object");
  CHECK_PROBLEM(file_of("{", 0), "no JSON object");
  CHECK_PROBLEM(file_of("{} x", 0), "no JSON object");
  CHECK_PROBLEM(file_of("{\"a\xff\":{}}", 0), "no JSON object");
  CHECK_PROBLEM(file_of(R"({"__metadata__":3})", 0), "metadata");
  CHECK_PROBLEM(file_of(std::string(3000, '['), 0), "no JSON object");
}

TEST_CASE("a tensor with a bad description is refused by name", "[models][safetensors]") {
  CHECK_PROBLEM(file_of(R"({"w.x":3})", 0), "'w.x'");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1]}})", 4),
                "'w' lacks dtype, shape or data_offsets");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4), "'w' lacks");
  CHECK_PROBLEM(file_of(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4), "'w' lacks");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4),
                "'w' has an unknown dtype");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})", 4),
                "'w' has an unknown dtype");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4),
                "'w' has a shape");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
                "'w' has a shape");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4),
                "'w' has a shape");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4),
                "'w' has data_offsets");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4),
                "'w' has data_offsets");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4),
                "'w' has data_offsets");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
                "'w' ends before it begins");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", 4),
                "unknown field 'more'");
}

TEST_CASE("truncated, oversized, overlapping and duplicate tensors are refused by name",
          "[models][safetensors]") {
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7),
                "'w' ends at byte 8");
  CHECK_PROBLEM(file_of(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
                "'w' takes 8 bytes, but [3] F32");
  CHECK_PROBLEM(
      file_of(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8),
      "'w' has more elements than 64 bits");
  CHECK_PROBLEM(
      file_of(R"({"w":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0),
      "'w' takes 0 bytes");
  CHECK_PROBLEM(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                        12),
                "'b' overlaps with tensor 'a'");
  CHECK_PROBLEM(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                        12),
                "'b' begins at byte 8 of the data, after a hole of 4 bytes");
  CHECK_PROBLEM(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                        8),
                "'a' is described twice");
  CHECK_PROBLEM(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 9),
                "holds 5 bytes that belong to no tensor");
}

TEST_CASE("a missing file, a folder and a pipe are no weight files", "[models][safetensors]") {
  temporary_folder folder;
  CHECK(!read_safetensors(folder / "none"));
  CHECK(!read_safetensors(folder.path()));
  CHECK(!read_safetensors("/dev/null"));
}

TEST_CASE("a file truncated while it is mapped leaves zeros and a mark, not a dead process",
          "[models][safetensors]") {
  temporary_folder folder;
  folder.write(
      "x.safetensors",
      file_of(R"({"w":{"dtype":"U8","shape":[100000],"data_offsets":[0,100000]}})", 100000));
  auto tensors = read_safetensors(folder / "x.safetensors");
  REQUIRE(tensors);
  const auto& w = tensors->at("w");
  CHECK(w.file->intact());
  std::filesystem::resize_file(folder / "x.safetensors", 20000);
  int sum = 0;
  for (size_t i = 50000; i < 60000; ++i)
    sum += static_cast<int>(w.data()[i]);
  CHECK(sum == 0);
  CHECK(!w.file->intact());
}

TEST_CASE("a file shortened within its last page is noticed as well", "[models][safetensors]") {
  temporary_folder folder;
  folder.write("x.safetensors",
               file_of(R"({"w":{"dtype":"U8","shape":[100],"data_offsets":[0,100]}})", 100));
  auto tensors = read_safetensors(folder / "x.safetensors");
  REQUIRE(tensors);
  std::filesystem::resize_file(folder / "x.safetensors", 120);
  CHECK(!tensors->at("w").file->intact());
}

namespace {

std::string one_tensor(const std::string& name) {
  return file_of(R"({")" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
}

std::string index_problem(const temporary_folder& folder) {
  auto opened = checkpoint::open(folder.path());
  REQUIRE(!opened);
  CHECK(code_of(opened.error()) == ec::bad_model);
  return text_of(opened.error());
}

} // namespace

TEST_CASE("sharded weights are found through their index", "[models][safetensors]") {
  temporary_folder folder;
  folder.write("1.safetensors", one_tensor("a"));
  folder.write("2.safetensors", one_tensor("b"));
  folder.write("model.safetensors.index.json",
               R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  auto opened = checkpoint::open(folder.path());
  REQUIRE(opened);
  CHECK(opened->tensors().size() == 2);
  CHECK(opened->stored_bytes() == 8);
  CHECK(opened->find("b") != nullptr);
  CHECK(opened->find("c") == nullptr);
}

TEST_CASE("an index that lies is refused with the tensor's name", "[models][safetensors]") {
  temporary_folder folder;
  const auto index = [&](const std::string& text) {
    folder.write("model.safetensors.index.json", text);
  };
  folder.write("1.safetensors", one_tensor("a"));
  folder.write("2.safetensors", one_tensor("a"));
  index(R"({"weight_map":{"a":"3.safetensors"}})");
  CHECK(contains(index_problem(folder), "'3.safetensors', which is missing"));
  index(R"({"weight_map":{"a":"../1.safetensors"}})");
  CHECK(contains(index_problem(folder), "no file name in this folder"));
  index(R"({"weight_map":{"a":"/etc/passwd"}})");
  CHECK(contains(index_problem(folder), "no file name in this folder"));
  index(R"({"weight_map":{"b":"1.safetensors"}})");
  CHECK(contains(index_problem(folder), "tensor 'b' into '1.safetensors', which does not hold it"));
  index(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  CHECK(contains(index_problem(folder), "tensor 'a' is in"));
  index(R"({"weight_map":{"a":7}})");
  CHECK(contains(index_problem(folder), "'weight_map.a' is not a text"));
  index(R"({"weights":{}})");
  CHECK(contains(index_problem(folder), "'weight_map' is missing"));
  index("{");
  CHECK(contains(index_problem(folder), "not valid JSON"));
}

TEST_CASE("weights in another format are named as such", "[models][safetensors]") {
  temporary_folder folder;
  CHECK(contains(index_problem(folder), "has neither model.safetensors nor"));
  folder.write("tf_model.h5", "x");
  CHECK(contains(index_problem(folder), "convert them to safetensors"));
}
