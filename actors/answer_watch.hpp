#pragma once

#include <memory>

#include "troupe/actors/generation.hpp"
#include "troupe/actors/scheduling/search_watch.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe {

/// For a search that settles nothing before its end: its request shows it the answer's text, so
/// that a stop string ends a beam where it would end any other sequence.
std::shared_ptr<search_watch> make_watch(const generation_params& params, tokenizer_ptr tok);

} // namespace troupe
