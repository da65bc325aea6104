#pragma once

#include "troupe/actors/generation.hpp"
#include "troupe/http/dialects/fields.hpp"

/// The decoding parameters that every dialect knows, under all their names, with the ranges of the
/// contract's table (generation.md §2).
namespace troupe::http {

/// Which of the parameters that imply sampling were given.
struct sampling_hints {
  std::optional<double> temperature;
  bool filters = false; ///< top_p < 1, top_k > 0 and not 1, typical_p or min_p.
};

/// Reads everything but max_new_tokens, n, best_of and log-probabilities into `to`; draws a seed
/// when none is given. Does not decide whether to sample. Problems stay in the reader.
/// @param highest_temperature 2 for OpenAI's routes, absent for LMI's.
sampling_hints read_sampling(field_reader& from, std::optional<double> highest_temperature,
                             generation_params& to);

/// Makes `to` sample with that temperature, or decode greedily when it is 0.
void set_temperature(double temperature, generation_params& to);

/// Reads n and best_of. A best_of without n returns all.
/// @param needs_sampling More than one choice of a greedy request is refused.
void read_choices(field_reader& from, bool needs_sampling, generation_params& to);

/// Choices that one request may ask for.
inline constexpr int64_t most_choices = 128;
/// Stop strings that one request may bring.
inline constexpr size_t most_stops = 16;

} // namespace troupe::http
