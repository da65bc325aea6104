#pragma once

#include <string>

#include "troupe/models/loading/safetensors.hpp"

namespace troupe::models {

/// Reads what `torch.save` wrote of a state dict (pytorch_model.bin): a zip archive of a pickle and
/// of one file per storage, which are left where they are. No code of the pickle is run: it may
/// only name PyTorch's own ways of putting a tensor together. Entries that are no tensors are left
/// out. Layout: torch 2.5.1, torch/serialization.py (_save) and torch/_utils.py
/// (_rebuild_tensor_v2).
/// Errors: ec::bad_model, one sentence that names the file and the tensor: no such archive (older
/// than PyTorch 1.6 among them), damaged, compressed, other calls, a tensor whose elements do not
/// stand in the order of its shape, or that reaches beyond its storage.
caf::expected<tensor_map> read_pytorch(const std::string& path);

} // namespace troupe::models
