#include "troupe/http/dialects/searching.hpp"

#include <algorithm>
#include <limits>

namespace troupe::http {

namespace {

constexpr int64_t most_answers = 128;

} // namespace

search_wish read_search(field_reader& from) {
  search_wish out;
  out.beams = static_cast<uint32_t>(
      from.integer({"num_beams"}, {.low = 1, .high = most_beams}).value_or(1));
  out.length_penalty = from.number({"length_penalty"}).value_or(1);
  if (auto* early = from.raw({"early_stopping"})) {
    auto* word = early->as_string();
    auto* flag = early->as_bool();
    if (word && *word == "never")
      out.stopping = early_stopping::never;
    else if ((flag && *flag) || (word && (*word == "true" || *word == "True")))
      out.stopping = early_stopping::yes;
    else if (!flag && !(word && (*word == "false" || *word == "False")))
      from.fail("early_stopping", "early_stopping must be true, false or \"never\"");
  }
  out.alpha = from.number({"penalty_alpha"}, {.low = 0, .high = 1});
  out.top_k = from.integer({"top_k"}, {.low = -1, .high = std::numeric_limits<int32_t>::max()});
  return out;
}

void set_beams(const search_wish& wish, generation_params& to) {
  to.search = {.kind = search_kind::beams,
               .lanes = wish.beams,
               .returned = wish.beams,
               .length_penalty = wish.length_penalty,
               .stopping = wish.stopping};
}

void read_groups(field_reader& from, generation_params& to) {
  const auto groups = static_cast<uint32_t>(
      from.integer({"num_beam_groups"}, {.low = 1, .high = most_beams}).value_or(1));
  const auto penalty = from.number({"diversity_penalty"}).value_or(0);
  if (groups == 1)
    return;
  const auto beams = to.search.kind == search_kind::beams ? to.search.lanes : 1;
  if (beams % groups != 0)
    from.fail("num_beam_groups", "num_beam_groups must divide num_beams (" + std::to_string(beams) +
                                     "), got " + std::to_string(groups));
  if (to.sampling.sample)
    from.fail("num_beam_groups", "num_beam_groups above 1 and do_sample exclude each other");
  if (penalty <= 0)
    from.fail("diversity_penalty",
              "diversity_penalty must be greater than 0 where there are several groups of beams: "
              "otherwise all of them find the same");
  to.search.groups = groups;
  to.search.diversity_penalty = static_cast<float>(penalty);
}

void set_contrastive(const search_wish& wish, bool embeddings, generation_params& to) {
  const auto candidates = wish.top_k.value_or(4);
  const auto alpha = wish.alpha.value_or(0.6);
  to.sampling.top_k = 0;
  if (candidates < 2 || alpha == 0)
    return;
  to.search = {.kind = search_kind::contrastive,
               .lanes = static_cast<uint32_t>(candidates),
               .penalty_alpha = static_cast<float>(alpha),
               .embeddings = embeddings};
}

void read_found(field_reader& from, std::initializer_list<std::string_view> names,
                uint32_t fallback, generation_params& to) {
  const bool beams = to.search.kind == search_kind::beams;
  const auto most = beams ? to.search.lanes : 1;
  const auto n = from.integer(names, {.low = 1, .high = most_answers}).value_or(fallback);
  const std::string name{*names.begin()};
  if (n > most)
    from.fail(name, beams ? name + " must be at most num_beams (" + std::to_string(most) + ")"
                          : "contrastive search returns one sequence: " + name + " must be 1");
  if (from.integer({"best_of"}, {.low = 1, .high = most_answers}).value_or(n) != n)
    from.fail("best_of", "best_of goes with sampling, not with beams or contrastive search");
  to.n = to.best_of = to.search.returned = static_cast<uint32_t>(std::min<int64_t>(n, most));
}

} // namespace troupe::http
