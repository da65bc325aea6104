#include <catch2/catch.hpp>

#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>

#include "temporary_folder.hpp"
#include "troupe/models/loading/checkpoint.hpp"
#include "troupe/models/loading/pickle.hpp"
#include "troupe/models/loading/pytorch_file.hpp"
#include "troupe/models/loading/zip_directory.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::test;

/// Files that torch.save wrote (tests/golden/make_pytorch_goldens.py), and damaged ones.
namespace {

const std::string golden = TROUPE_GOLDEN_DIR "/pytorch/";

template <class T>
T element(const stored_tensor& t, size_t index) {
  T out;
  std::memcpy(&out, t.data() + index * sizeof out, sizeof out);
  return out;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

std::string problem(const std::string& path) {
  auto tensors = read_pytorch(path);
  REQUIRE(!tensors);
  CHECK(code_of(tensors.error()) == ec::bad_model);
  auto text = text_of(tensors.error());
  CHECK(text.find(path) != std::string::npos);
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

caf::expected<pickle> unpickle(const std::string& text) {
  return read_pickle(std::as_bytes(std::span{text.data(), text.size()}));
}

} // namespace

TEST_CASE("tensors of every type are found in what torch.save wrote", "[models][pytorch]") {
  auto tensors = read_pytorch(golden + "every_type.bin");
  if (!tensors)
    FAIL(text_of(tensors.error()));
  CHECK(tensors->size() == 15); // What is no tensor is left out.
  auto check = [&](const char* name, tensor_type type, const std::vector<uint64_t>& shape) {
    INFO(name);
    auto found = tensors->find(name);
    REQUIRE(found != tensors->end());
    CHECK(found->second.type == type);
    CHECK(found->second.shape == shape);
    return found->second;
  };
  const std::vector<uint64_t> small{2, 3};
  CHECK(element<float>(check("f32", tensor_type::f32, small), 5) == 5);
  CHECK(element<uint16_t>(check("f16", tensor_type::f16, small), 0) == 0x3c00);   // 1
  CHECK(element<uint16_t>(check("bf16", tensor_type::bf16, small), 0) == 0x4000); // 2
  CHECK(element<double>(check("f64", tensor_type::f64, small), 1) == 4);
  CHECK(element<int64_t>(check("i64", tensor_type::i64, small), 2) == 6);
  CHECK(element<int32_t>(check("i32", tensor_type::i32, small), 3) == 8);
  CHECK(element<int16_t>(check("i16", tensor_type::i16, small), 4) == 10);
  CHECK(element<int8_t>(check("i8", tensor_type::i8, small), 5) == 12);
  CHECK(element<uint8_t>(check("u8", tensor_type::u8, small), 0) == 8);
  check("bool", tensor_type::boolean, small);
  CHECK(element<float>(check("view", tensor_type::f32, {2, 5}), 0) == 105);
  CHECK(element<float>(check("tied.b", tensor_type::f32, {4, 5}), 19) == 119);
  CHECK(check("tied.a", tensor_type::f32, {4, 5}).offset ==
        check("tied.b", tensor_type::f32, {4, 5}).offset);
  CHECK(element<float>(check("scalar", tensor_type::f32, {}), 0) == 7);
  CHECK(element<float>(check("parameter", tensor_type::f32, {3}), 2) == 52);
}

TEST_CASE("weights of PyTorch count where there are no others", "[models][pytorch]") {
  auto sharded = checkpoint::open(golden + "sharded");
  if (!sharded)
    FAIL(text_of(sharded.error()));
  REQUIRE(sharded->find("layer.1"));
  CHECK(element<float>(*sharded->find("layer.1"), 3) == 13);
  CHECK(sharded->tensors().size() == 2);

  temporary_folder folder;
  folder.write("pytorch_model.bin", bytes_of(golden + "every_type.bin"));
  auto alone = checkpoint::open(folder.path());
  REQUIRE(alone);
  CHECK(alone->find("f32"));
  folder.write("model.safetensors", "no such file");
  CHECK(!checkpoint::open(folder.path()));
}

TEST_CASE("what cannot be read as it stands is refused by name", "[models][pytorch]") {
  CHECK(contains(problem(golden + "transposed.bin"),
                 "tensor 't' is stored in another order than that of its shape"));
  CHECK(contains(problem(golden + "whole_model.bin"),
                 "tensor 'module' would be made by calling torch.nn.modules.linear.Linear"));
  CHECK(contains(problem(golden + "old.bin"), "PyTorch 1.6"));
}

TEST_CASE("a file that is cut anywhere, or changed, is refused or read, never more",
          "[models][pytorch]") {
  temporary_folder folder;
  const auto whole = bytes_of(golden + "every_type.bin");
  REQUIRE(whole.size() > 1000);
  for (size_t cut = 0; cut < whole.size(); cut += 97) {
    folder.write("cut.bin", whole.substr(0, cut));
    CHECK(!read_pytorch(folder / "cut.bin"));
  }
  size_t refused = 0;
  uint32_t state = 1;
  for (int i = 0; i < 3000; ++i) {
    auto changed = whole;
    for (int k = 0; k < 3; ++k) {
      state = state * 1664525u + 1013904223u;
      changed[state % changed.size()] = static_cast<char>(state >> 24);
    }
    folder.write("changed.bin", changed);
    auto tensors = read_pytorch(folder / "changed.bin");
    refused += tensors ? 0 : 1;
    if (!tensors)
      continue;
    for (const auto& [name, tensor] : *tensors)
      REQUIRE(tensor.offset + tensor.bytes <= tensor.file->size());
  }
  CHECK(refused > 100);
}

TEST_CASE("an archive's directory tells where its files are", "[models][pytorch]") {
  auto file = mapped_file::open(golden + "every_type.bin");
  REQUIRE(file);
  auto entries = read_zip_directory(**file);
  REQUIRE(entries);
  size_t pickles = 0;
  for (const auto& entry : *entries) {
    CHECK(entry.stored);
    pickles += entry.name.ends_with("/data.pkl") ? 1 : 0;
  }
  CHECK(pickles == 1);
}

TEST_CASE("pickles become values, and call nothing", "[models][pytorch]") {
  // {'a': (1, -2, None, True), 'b': [3.5]}
  auto made = unpickle(std::string{"\x80\x02}(X\x01\x00\x00\x00"
                                   "a(K\x01J\xfe\xff\xff\xffN\x88tX\x01\x00\x00\x00"
                                   "b]G\x40\x0c\x00\x00\x00\x00\x00\x00"
                                   "au.",
                                   40});
  REQUIRE(made);
  auto* dict = made->root->as<pickle_dict>();
  REQUIRE(dict);
  REQUIRE(dict->size() == 2);
  auto* tuple = (*dict)[0].second->as<pickle_sequence>();
  REQUIRE(tuple);
  REQUIRE(tuple->size() == 4);
  CHECK(*(*tuple)[1]->as<int64_t>() == -2);
  CHECK(*(*tuple)[3]->as<bool>());
  CHECK(*(*(*dict)[1].second->as<pickle_sequence>())[0]->as<double>() == 3.5);

  auto call = unpickle(std::string{"\x80\x02"
                                   "cos\nsystem\nX\x04\x00\x00\x00"
                                   "boom\x85R.",
                                   25});
  REQUIRE(call);
  REQUIRE(call->root->as<pickle_call>());
  CHECK(call->root->as<pickle_call>()->what.full() == "os.system");

  for (const std::string bad : {"", "\x80\x02", "\x80\x01.", "\x80\x02.", "\x80\x02t.",
                                "\x80\x02h\x05.", "\x80\x02}K\x01s.", "\x80\x02)K\x01\x85R.",
                                "\x80\x02i.", "\x80\x02(}K\x01u.", "\x80\x02X\xff\xff\xff\xff"}) {
    INFO(bad);
    CHECK(!unpickle(bad));
  }
}
