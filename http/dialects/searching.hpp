#pragma once

#include "troupe/actors/generation.hpp"
#include "troupe/http/dialects/fields.hpp"

/// The parameters of beam search and contrastive search (contract generation.md §2, §7), which
/// LMI's modes share.
namespace troupe::http {

/// Beams that one request may ask for.
inline constexpr int64_t most_beams = 16;

/// What a request says about searching, whether or not it is used.
struct search_wish {
  uint32_t beams = 1;
  double length_penalty = 1;
  early_stopping stopping = early_stopping::no;
  std::optional<double> alpha; ///< penalty_alpha
  std::optional<int64_t> top_k;
};

/// Reads num_beams, length_penalty, early_stopping, penalty_alpha and top_k.
search_wish read_search(field_reader& from);

void set_beams(const search_wish& wish, generation_params& to);

/// Reads num_beam_groups and diversity_penalty, with generate()'s rules. @pre the mode is chosen
void read_groups(field_reader& from, generation_params& to);

/// Four candidates and a penalty_alpha of 0.6 unless `wish` says otherwise. One candidate, or no
/// penalty, is greedy.
void set_contrastive(const search_wish& wish, bool embeddings, generation_params& to);

/// How many sequences a search returns: the first of `names`, else `fallback`; at most all beams.
void read_found(field_reader& from, std::initializer_list<std::string_view> names,
                uint32_t fallback, generation_params& to);

} // namespace troupe::http
