# What stands directly in this folder, with loading, architectures and the dummy model: one library.
troupe_library(troupe_models
  SOURCES
    activation.cpp
    architectures/fields.cpp
    architectures/gpt2.cpp
    architectures/llama.cpp
    architectures/mistral.cpp
    architectures/qwen2.cpp
    architectures/qwen3.cpp
    architectures/registry.cpp
    cpu_backend.cpp
    decoder_model.cpp
    decoder_stage.cpp
    decoder_weights.cpp
    device_build.cpp
    device_claims.cpp
    device_library.cpp
    device_plan.cpp
    dummy/dummy_model.cpp
    host_memory.cpp
    inspect.cpp
    loading/checkpoint.cpp
    loading/json_file.cpp
    loading/mapped_file.cpp
    loading/pickle.cpp
    loading/pytorch_file.cpp
    loading/random_weights.cpp
    loading/safetensors.cpp
    loading/zip_directory.cpp
    placement.cpp
    plan.cpp
    plan_on_devices.cpp
    plan_parts.cpp
    rope.cpp
    sequence_table.cpp
  LINKS troupe_config troupe_tokenizer troupe_cpu_kernels troupe_sampling
  PRIVATE_LINKS simdjson::simdjson ${CMAKE_DL_LIBS})
set_source_files_properties(device_build.cpp PROPERTIES
  COMPILE_DEFINITIONS TROUPE_VERSION="${PROJECT_VERSION}")
