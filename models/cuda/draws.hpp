#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "troupe/models/backend.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"

/// Between sampling as models/sampling knows it and what the kernels take and give.
namespace troupe::models::cuda {

/// Parameters for the device, as far as it does them. @param slot Its row of token counts.
slot_sampling sampling_of(const sequence_start& start, uint32_t slot);

/// Whether the device counts this sequence's tokens.
bool counts_tokens(const sampling_params& params);

/// Whether models/sampling must look at this row of logits.
bool draws_on_host(const draw& d);

/// What the device is asked for each of `picked` places: of several draws for one place all but the
/// first go to the host, as those do that it cannot serve; the places of these are put into
/// `on_host`, indices into `draws`.
void request_draws(std::span<const draw> draws, std::span<draw_request> picked,
                   std::vector<uint32_t>& on_host);

/// Whether the kernels' short path serves all of them.
bool all_plain_greedy(std::span<const draw> draws);

/// Takes over what the device gave. @param top Null where nobody asked.
void take_draw(const draw& d, const draw_result& result, const top_entry* top);

/// Samples one row of logits on the host.
void draw_on_host(const draw& d, std::span<const float> logits);

} // namespace troupe::models::cuda
