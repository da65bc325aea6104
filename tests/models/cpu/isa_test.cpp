#include <cstdlib>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/isa.hpp"

namespace cpu = troupe::models::cpu;

TEST_CASE("the environment lowers the instruction set, and a bad value is told",
          "[models][cpu][isa]") {
  unsetenv("TROUPE_CPU_ISA");
  CHECK(cpu::isa_from_environment().level == cpu::best_isa());
  setenv("TROUPE_CPU_ISA", "plain", 1);
  CHECK(cpu::isa_from_environment().level == cpu::isa::plain);
  CHECK(cpu::isa_from_environment().problem.empty());
  setenv("TROUPE_CPU_ISA", "avx9000", 1);
  const auto wrong = cpu::isa_from_environment().problem;
  CHECK(wrong.find("TROUPE_CPU_ISA") != std::string::npos);
  CHECK(wrong.find("avx9000") != std::string::npos);
  CHECK(wrong.find("avx512_bf16") != std::string::npos);
  unsetenv("TROUPE_CPU_ISA");
}

TEST_CASE("every level up to the best can be chosen by name, none above it", "[models][cpu][isa]") {
  for (cpu::isa level :
       {cpu::isa::plain, cpu::isa::avx2, cpu::isa::avx512, cpu::isa::avx512_bf16}) {
    const auto choice = cpu::select_isa(cpu::to_string_view(level));
    if (level <= cpu::best_isa()) {
      CHECK(choice.problem.empty());
      CHECK(choice.level == level);
    } else {
      CHECK(choice.problem.find("not offered") != std::string::npos);
    }
  }
  CHECK(cpu::available_isas().back() == cpu::best_isa());
  CHECK(cpu::select_isa("auto").level == cpu::best_isa());
}
