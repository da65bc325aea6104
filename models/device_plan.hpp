#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "troupe/models/decoder_model.hpp"
#include "troupe/models/decoder_weights.hpp"
#include "troupe/models/device_library.hpp"
#include "troupe/models/stage.hpp"

/// Where a model goes on GPUs, decided before anything is loaded. Plain functions of what the
/// devices say about themselves.
namespace troupe::models {

/// What the options say of where to run.
struct device_wish {
  bool cpu = false;               ///< On the CPU, whatever there is.
  bool required = false;          ///< Without a GPU it is an error; otherwise the CPU will do.
  bool few = false;               ///< As few GPUs as hold the model, even where all were allowed.
  std::vector<uint32_t> ordinals; ///< Allowed GPUs in this order; empty: all.
};

/// Reads load_on_devices ("*", "cpu", "-1", "4;5", "gpu4;gpu5") and device_map ("auto", "balanced",
/// "balanced_low_0", "sequential", "cpu", "cuda", "cuda:1"), which beats it.
/// Errors: ec::bad_option.
caf::expected<device_wish> read_device_wish(const std::string& devices,
                                            const std::string& device_map);

/// The GPUs that a wish allows. Errors: ec::bad_option: one that is not there, one that is too old,
/// different ones.
caf::expected<std::vector<device_description>>
allowed_devices(const device_wish& wish, const std::vector<device_description>& there);

/// The type that `load_options::dtype` asks for on a GPU. Errors: ec::bad_option.
caf::expected<dtype> device_compute_type(const std::string& wish, dtype stored);

/// One stage and what it takes of its GPU's memory.
struct device_part {
  device_description device;
  layer_range range;
  device_backend_options options;
  uint64_t weight_bytes = 0;
  uint64_t working_bytes = 0; ///< Scratch, workspaces, recordings, what libraries load.
  uint64_t kv_bytes = 0;
};

struct device_layout {
  std::vector<device_part> parts;
  uint32_t blocks = 0;  ///< On every part.
  uint32_t context = 0; ///< Longest sequence.
  uint32_t step_tokens = 0;
};

/// As device_entry::working_bytes.
using working_bytes_function =
    std::function<uint64_t(const device_backend_options&, const device_description&)>;

/// Splits the layers over `devices` as the options say and sizes the KV cache from what is free.
/// Errors: ec::bad_option: too few devices, a context that does not fit; ec::out_of_memory: with
/// what would make it fit.
caf::expected<device_layout> lay_out(const decoder_model& model, const load_options& options,
                                     dtype compute, const std::vector<device_description>& devices,
                                     bool few, const working_bytes_function& working_bytes);

/// Where copies of a model may be.
struct copy_places {
  std::vector<std::vector<device_description>> groups; ///< The GPUs of each copy.
  uint32_t stages = 1;               ///< What `load_options::shards` is to be for each.
  bool chosen = false;               ///< The options named the number of GPUs of a copy.
  std::vector<std::string> left_out; ///< A sentence for each GPU without room for a copy.
};

/// Cuts `devices` into groups with a copy each: as many GPUs as the options name; where they name
/// no number, one GPU each if one holds the model with a whole context, else all together. `few`:
/// one copy, on as few as hold it. Errors: as lay_out, which is asked for single ones.
caf::expected<copy_places> place_copies(const decoder_model& model, const load_options& options,
                                        dtype compute,
                                        const std::vector<device_description>& devices, bool few,
                                        const working_bytes_function& working_bytes);

/// The layout as sentences for the log.
std::vector<std::string> describe(const decoder_model& model, const device_layout& layout,
                                  const load_options& options);

} // namespace troupe::models
