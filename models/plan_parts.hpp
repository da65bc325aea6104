#pragma once

#include <memory>
#include <string>
#include <vector>

#include "troupe/models/decoder_model.hpp"
#include "troupe/models/decoder_weights.hpp"
#include "troupe/models/device_library.hpp"
#include "troupe/models/stage.hpp"

/// What `plan_model` is made of. Internal to the plan's source files.
namespace troupe::models {

/// "512 MiB"
std::string mebibytes(uint64_t bytes);

model_info describe_model(const decoder_model& model, const load_options& options, dtype compute);

/// Says what the layers' matrices are kept as, where they are quantized.
void describe_quantization(model_plan& plan, const load_options& options);

/// Gives preempted sequences room in host memory; each stage measures its moves when it is made.
void plan_host_memory(model_plan& plan, const load_options& options, bool on_device);

/// Plans the first copy of a model on GPUs and says where others may be.
/// @param devices The allowed ones; what is free on them is asked again.
/// Errors: as plan_model.
caf::expected<model_plan> plan_on_devices(std::shared_ptr<const decoder_model> model,
                                          const load_options& options,
                                          std::vector<device_description> devices, bool few);

} // namespace troupe::models
