add_library(models_test_support STATIC golden.cpp stage_driver.cpp)
target_link_libraries(models_test_support PUBLIC troupe_models PRIVATE simdjson::simdjson)
target_compile_definitions(models_test_support PRIVATE TROUPE_GOLDEN_DIR="${TROUPE_GOLDEN_DIR}")
troupe_warnings(models_test_support)

troupe_test(models_architectures_test
  SOURCES architectures_test.cpp
  LINKS models_test_support)
troupe_test(models_loading_test
  SOURCES safetensors_test.cpp configuration_test.cpp placement_test.cpp
  LINKS models_test_support)
troupe_test(models_stages_test
  SOURCES equality_test.cpp dummy_test.cpp
  LINKS models_test_support)
troupe_test(models_smollm2_test
  SOURCES smollm2_test.cpp
  LINKS models_test_support
  TIMEOUT 600)

if(TROUPE_CUDA)
  add_subdirectory(cuda/emulation)
endif()
