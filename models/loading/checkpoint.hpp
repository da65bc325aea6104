#pragma once

#include <string>
#include <string_view>

#include "troupe/models/loading/safetensors.hpp"

namespace troupe::models {

/// All weights of a model folder, whichever files they are in: `model.safetensors`, or the files
/// that `model.safetensors.index.json` lists; in their absence `pytorch_model.bin`, or the files of
/// its index.
class checkpoint {
public:
  /// Errors: ec::bad_model: no weights, a weight in a format we do not read (the sentence says so),
  /// an index that names a missing file, a path outside of the folder or a tensor that the file
  /// lacks, a tensor that is in two files, and all that `read_safetensors` and `read_pytorch`
  /// refuse.
  static caf::expected<checkpoint> open(const std::string& folder);

  /// Null when there is no such tensor.
  const stored_tensor* find(std::string_view name) const;
  const tensor_map& tensors() const { return tensors_; }
  uint64_t stored_bytes() const; ///< Sum over the tensors.

private:
  tensor_map tensors_;
};

} // namespace troupe::models
