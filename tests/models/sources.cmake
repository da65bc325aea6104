add_library(models_test_support STATIC golden.cpp stage_driver.cpp)
target_link_libraries(models_test_support PUBLIC troupe_models PRIVATE simdjson::simdjson)
target_compile_definitions(models_test_support PRIVATE TROUPE_GOLDEN_DIR="${TROUPE_GOLDEN_DIR}")
troupe_warnings(models_test_support)

troupe_test(models_architectures_test
  SOURCES architectures_test.cpp quantization_test.cpp
  LINKS models_test_support)
troupe_test(models_loading_test
  SOURCES safetensors_test.cpp pytorch_file_test.cpp configuration_test.cpp placement_test.cpp device_library_test.cpp
          device_plan_test.cpp
  LINKS models_test_support)
add_library(strange_library MODULE strange_library.cpp)
add_library(old_device_library MODULE old_device_library.cpp)
target_link_libraries(old_device_library PRIVATE troupe_models)
target_compile_definitions(models_loading_test PRIVATE
  TROUPE_STRANGE_LIBRARY="$<TARGET_FILE:strange_library>"
  TROUPE_OLD_LIBRARY="$<TARGET_FILE:old_device_library>")
add_dependencies(models_loading_test strange_library old_device_library)
troupe_test(models_stages_test
  SOURCES equality_test.cpp dummy_test.cpp
  LINKS models_test_support)
troupe_test(models_smollm2_test
  SOURCES smollm2_test.cpp
  LINKS models_test_support
  TIMEOUT 600)

if(TROUPE_CUDA)
  add_subdirectory(cuda/emulation)
  add_subdirectory(cuda/kernels)
endif()
