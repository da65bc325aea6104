#pragma once

#include <memory>

#include "troupe/models/backend.hpp"

namespace troupe::models {

/// How a CPU backend is set up.
struct cpu_backend_options {
  unsigned threads = 1; ///< The calling thread included.
  dtype compute =
      dtype::fp32; ///< fp32 or bf16: storage of weights and pages; activations are fp32.
};

/// A backend on this host's processor, made of the kernels in models/cpu.
/// Errors: ec::bad_option: TROUPE_CPU_ISA asks for what the processor lacks.
caf::expected<std::unique_ptr<backend>> make_cpu_backend(const cpu_backend_options& options);

} // namespace troupe::models
