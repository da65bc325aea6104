#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/loading/mapped_file.hpp"

namespace troupe::models {

/// Element types that the safetensors format knows.
enum class tensor_type : uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  f64,
  i64,
  u64,
};

/// The format's own spelling, e.g. "BF16".
std::string_view to_string_view(tensor_type t);
/// Bytes of one element.
size_t size_of(tensor_type t);

/// A tensor in a mapped file; valid as long as the file is.
struct stored_tensor {
  tensor_type type = tensor_type::f32;
  std::vector<uint64_t> shape;
  std::shared_ptr<const mapped_file> file;
  size_t offset = 0; ///< From the start of the file.
  size_t bytes = 0;

  const std::byte* data() const { return file->data() + offset; }
};

/// "[3, 64] BF16", for messages.
std::string describe(const stored_tensor& t);

using tensor_map = std::map<std::string, stored_tensor, std::less<>>;

/// Reads the header of one file and checks all of it: length (at most 100 MB), JSON, every entry's
/// dtype, shape and offsets, bytes = shape x element size without overflow, and that the tensors
/// fill the data exactly, one behind the other, with neither gap nor overlap. The tensors' contents
/// are not touched. Layout: 8 bytes little-endian header length, the JSON header, the data
/// (https://github.com/huggingface/safetensors, "Format").
/// Errors: ec::bad_model, one sentence that names the file and the tensor.
caf::expected<tensor_map> read_safetensors(const std::string& path);

} // namespace troupe::models
