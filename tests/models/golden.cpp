#include "golden.hpp"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#include <simdjson.h>

namespace troupe::test {

namespace {

template <class T>
std::vector<T> numbers(simdjson::dom::element from) {
  std::vector<T> result;
  for (auto x : from.get_array())
    result.push_back(static_cast<T>(double(x)));
  return result;
}

} // namespace

golden_file read_golden(const std::string& path) {
  simdjson::dom::parser parser;
  simdjson::dom::element root = parser.load(path); // throws
  golden_file file;
  for (auto c : root["cases"].get_array())
    file.cases.push_back({numbers<int32_t>(c["prompt"]), numbers<float>(c["prompt_logprobs"]),
                          numbers<int32_t>(c["tokens"]), numbers<float>(c["logprobs"])});
  if (simdjson::dom::element bf16; !root["bf16"].get(bf16)) {
    file.bf16_mean_error = bf16["mean_error"];
    file.bf16_max_error = bf16["max_error"];
  }
  if (file.cases.empty())
    throw std::runtime_error("no cases in " + path);
  return file;
}

std::string golden_model(const std::string& name) {
  // On a machine that has the programs but not the sources.
  const char* elsewhere = std::getenv("TROUPE_GOLDEN_DIR");
  return std::string{elsewhere != nullptr ? elsewhere : TROUPE_GOLDEN_DIR} + "/models/" + name;
}

models::load_options golden_options(const std::string& name) {
  models::load_options options;
  options.folder = golden_model(name);
  options.cpu_threads = 1;
  options.kv_cache_bytes = 64 << 20;
  return options;
}

double worst_difference(const golden_case& expected, const generated& got) {
  if (expected.prompt_logprobs.size() != got.prompt.size() ||
      expected.logprobs.size() != got.logprobs.size())
    return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (size_t i = 0; i < got.prompt.size(); ++i)
    worst = std::max(worst, std::abs(double(expected.prompt_logprobs[i]) - got.prompt[i].value));
  for (size_t i = 0; i < got.logprobs.size(); ++i)
    worst = std::max(worst, std::abs(double(expected.logprobs[i]) - got.logprobs[i]));
  return worst;
}

} // namespace troupe::test
