#include "troupe/models/architectures/recipes.hpp"

#include <array>

namespace troupe::models {

namespace {
const std::array<const decoder_recipe*, 5> recipes = {&llama_recipe, &mistral_recipe, &qwen2_recipe,
                                                      &qwen3_recipe, &gpt2_recipe};
} // namespace

std::span<const decoder_recipe* const> decoder_recipes() {
  return recipes;
}

std::string supported_architectures() {
  std::string text;
  for (const auto* r : recipes)
    text += (text.empty() ? "" : ", ") + std::string{r->architecture};
  return text;
}

caf::expected<const decoder_recipe*> find_recipe(const json_file& json) {
  const auto names = json.texts("architectures");
  for (const auto& name : names)
    for (const auto* r : recipes)
      if (r->architecture == name)
        return r;
  const auto type = json.text("model_type", "");
  if (auto err = json.error())
    return err;
  if (names.empty())
    for (const auto* r : recipes)
      if (r->model_type == type)
        return r;
  std::string what = "names no architecture";
  if (!names.empty())
    what = "architecture '" + names.front() + "' is not supported";
  else if (!type.empty())
    what = "model type '" + type + "' is not supported";
  return caf::make_error(ec::unsupported_model, "'" + json.path() + "': " + what +
                                                    "; supported are " + supported_architectures());
}

} // namespace troupe::models
