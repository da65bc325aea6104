#pragma once

#include <array>
#include <cstdint>

/// Counter-based random numbers: a value depends on key and counter alone, so there is no state to
/// keep, copy or replay.
namespace troupe::models {

/// Philox4x32 with 10 rounds. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3"
/// (SC 2011); test vectors in Random123's kat_vectors.
constexpr std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter,
                                                std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// The number in [0, 1) that draws the token at `position` of a request's i-th sequence: 53 bits of
/// philox4x32_10({position, sequence_index, branch, which}, {low half of seed, high half}), first
/// word on top. The last two counter words are for draws that need more than one number: of beams,
/// which of them, and for which token.
constexpr double philox_uniform(uint64_t seed, uint32_t sequence_index, uint32_t position,
                                uint32_t branch = 0, uint32_t which = 0) {
  const auto words =
      philox4x32_10({position, sequence_index, branch, which},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>((uint64_t{words[0]} << 32 | words[1]) >> 11) * 0x1p-53;
}

} // namespace troupe::models
