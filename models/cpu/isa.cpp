#include "troupe/models/cpu/isa.hpp"

#include <cstdlib>

namespace troupe::models::cpu {

namespace {

constexpr isa all_levels[] = {isa::plain, isa::avx2, isa::avx512, isa::avx512_bf16};

} // namespace

std::string_view to_string_view(isa level) {
  switch (level) {
  case isa::avx2:
    return "avx2";
  case isa::avx512:
    return "avx512";
  case isa::avx512_bf16:
    return "avx512_bf16";
  default:
    return "plain";
  }
}

isa best_isa() {
#if defined(__x86_64__)
  // These ask the operating system too, whether it saves the wide registers.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    return isa::plain;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
    return isa::avx2;
  return __builtin_cpu_supports("avx512bf16") ? isa::avx512_bf16 : isa::avx512;
#else
  return isa::plain;
#endif
}

std::vector<isa> available_isas() {
  std::vector<isa> found;
  for (isa level : all_levels)
    if (level <= best_isa())
      found.push_back(level);
  return found;
}

isa_choice select_isa(std::string_view wish) {
  const isa best = best_isa();
  if (wish.empty() || wish == "auto")
    return {best, {}};
  for (isa level : all_levels) {
    if (wish != to_string_view(level))
      continue;
    if (level <= best)
      return {level, {}};
    return {best, "the instruction set \"" + std::string{wish} +
                      "\" is not offered by this processor, whose best is \"" +
                      std::string{to_string_view(best)} +
                      "\": choose that or a lower one, or \"auto\""};
  }
  return {best, "there is no instruction set \"" + std::string{wish} +
                    "\": choose plain, avx2, avx512, avx512_bf16 or auto"};
}

isa_choice isa_from_environment() {
  const char* value = std::getenv("TROUPE_CPU_ISA");
  isa_choice choice = select_isa(value ? value : "");
  if (!choice.problem.empty())
    choice.problem = "TROUPE_CPU_ISA: " + choice.problem;
  return choice;
}

} // namespace troupe::models::cpu
