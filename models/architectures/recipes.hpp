#pragma once

#include "troupe/models/architectures/recipe.hpp"

namespace troupe::models {

extern const decoder_recipe llama_recipe;
extern const decoder_recipe mistral_recipe;
extern const decoder_recipe qwen2_recipe;
extern const decoder_recipe qwen3_recipe;
extern const decoder_recipe gpt2_recipe;

} // namespace troupe::models
