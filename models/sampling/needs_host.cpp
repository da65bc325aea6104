#include "troupe/models/sampling/needs_host.hpp"

namespace troupe::models {

namespace {

bool cuts(float cutoff) {
  return cutoff > 0.0f && cutoff < 1.0f;
}

} // namespace

bool needs_host(const sampling_params& p, const row_wants& wants) {
  const bool masks_ends = (p.min_length > 0 || p.min_new_tokens > 0) && !p.eos_tokens.empty();
  return wants.candidates > 0 || wants.hidden_state || wants.top_n > device_top_n ||
         (p.sample && (p.typical_p < 1.0f || cuts(p.epsilon_cutoff) || cuts(p.eta_cutoff))) ||
         p.no_repeat_ngram_size > 0 || p.encoder_no_repeat_ngram_size > 0 ||
         !p.logit_bias.empty() || !p.bad_words.empty() || !p.suppress_tokens.empty() ||
         !p.begin_suppress_tokens.empty() || p.forced_bos_token >= 0 ||
         !p.forced_eos_tokens.empty() || p.decay_factor != 1.0f ||
         (masks_ends && p.eos_tokens.size() > device_eos_tokens);
}

} // namespace troupe::models
