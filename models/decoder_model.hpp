#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/models/architectures/recipe.hpp"
#include "troupe/models/loading/checkpoint.hpp"
#include "troupe/models/quantization.hpp"

namespace troupe::models {

/// A model folder that was read and checked: recipe, numbers, and where each weight is. Immutable,
/// shared by the stages that load from it.
struct decoder_model {
  std::string folder;
  const decoder_recipe* recipe = nullptr;
  decoder_config config;
  checkpoint weights;
  std::string prefix; ///< Of all names but the head's.

  /// A recipe's name with prefix and layer number.
  std::string name(std::string_view pattern, uint32_t layer = 0) const;
  /// @pre such a weight exists, which `open_decoder` has checked.
  const stored_tensor& at(const std::string& name) const { return *weights.find(name); }

  uint64_t layer_parameters() const; ///< Of one layer's matrices.
  /// Bytes of one layer's matrices. @param element Of a weight that is not quantized.
  uint64_t layer_bytes(quantization kept_as, uint64_t element) const;
  uint64_t embedding_parameters() const; ///< Of the embedding and the learned positions.
  uint64_t parameters() const;           ///< Of all that the model uses.
};

/// A weight that a model must have.
struct required_weight {
  std::string name;
  std::vector<uint64_t> shape;
};

/// Every weight of the model, whatever the checkpoint holds.
std::vector<required_weight> required_weights(const decoder_model& model);

/// What config.json and generation_config.json say, without looking at weights. Fills all but
/// `weights` and `prefix`. Errors: ec::bad_model, ec::unsupported_model.
caf::expected<decoder_model> read_configuration(const std::string& folder);

/// Reads the folder and checks name, type, shape and bounds of every weight; contents are not
/// touched. Errors: ec::bad_model, ec::unsupported_model.
caf::expected<std::shared_ptr<const decoder_model>> open_decoder(const std::string& folder);

} // namespace troupe::models
