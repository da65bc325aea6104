#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::models::cpu {

/// Instruction sets that the kernels are written for, each containing the one before it.
enum class isa : uint8_t {
  plain,       ///< Portable loops; what the tests compare the others with.
  avx2,        ///< AVX2, FMA, F16C.
  avx512,      ///< AVX-512 F, BW, VL, DQ.
  avx512_bf16, ///< As above, and the dot product of bf16 pairs.
};

std::string_view to_string_view(isa level);

/// The best level that this processor and operating system offer.
isa best_isa();

/// All levels up to `best_isa()`, ascending. Tests run each.
std::vector<isa> available_isas();

/// What `select_isa` found out.
struct isa_choice {
  isa level = isa::plain;
  std::string problem; ///< Not empty: the wish cannot be granted; one sentence with a remedy.
};

/// Grants a wish ("plain", "avx2", "avx512", "avx512_bf16"; empty or "auto" = the best there is).
/// An unknown name and a level that the processor lacks are problems.
isa_choice select_isa(std::string_view wish);

/// `select_isa` with the value of the environment variable TROUPE_CPU_ISA.
isa_choice isa_from_environment();

} // namespace troupe::models::cpu
