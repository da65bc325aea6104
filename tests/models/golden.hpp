#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stage_driver.hpp"

namespace troupe::test {

/// What transformers computed for one prompt (tests/golden/make_model_goldens.py).
struct golden_case {
  std::vector<int32_t> prompt;
  std::vector<float> prompt_logprobs; ///< [prompt - 1]
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;

  generation request() const {
    generation g;
    g.prompt = prompt;
    g.new_tokens = static_cast<uint32_t>(tokens.size());
    g.prompt_logprobs = true;
    return g;
  }
};

struct golden_file {
  std::vector<golden_case> cases;
  double bf16_mean_error = 0; ///< Of transformers' own bf16; 0 where it was not measured.
  double bf16_max_error = 0;
};

/// Throws std::runtime_error when the file cannot be read.
golden_file read_golden(const std::string& path);

/// The folder of a tiny model.
std::string golden_model(const std::string& name);

/// Options for a tiny model: one thread, a small pool.
models::load_options golden_options(const std::string& name);

/// The greatest difference of the log-probabilities; infinite when there are not as many.
double worst_difference(const golden_case& expected, const generated& got);

} // namespace troupe::test
