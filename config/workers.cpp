#include "troupe/config/workers.hpp"

#include <algorithm>
#include <charconv>

namespace troupe::config {

namespace {

using integer_key = key<kind::integer, kind::bytes>;

/// The device's form, else the plain one, else `fallback`.
uint32_t first_set(const settings& model, integer_key of_device, integer_key plain,
                   uint32_t fallback) {
  for (auto k : {of_device, plain})
    if (model.at(k.index()).index() != 0)
      return static_cast<uint32_t>(model.integer(k));
  return fallback;
}

uint32_t most_on_cpu(const environment& variables, uint32_t cores) {
  auto at = variables.find("OMP_NUM_THREADS");
  uint32_t threads = 0;
  if (at == variables.end())
    return 2;
  const auto& text = at->second;
  auto read = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || threads == 0)
    return 2;
  return std::max(1u, cores / threads);
}

} // namespace

worker_limits resolve_workers(const settings& model, bool on_gpu, const environment& variables,
                              uint32_t cores) {
  worker_limits out;
  if (on_gpu) {
    out.least = first_set(model, "gpu.minWorkers", "minWorkers", 1);
    out.most = first_set(model, "gpu.maxWorkers", "maxWorkers", 1);
  } else {
    out.least = first_set(model, "cpu.minWorkers", "minWorkers", 1);
    out.most = first_set(model, "cpu.maxWorkers", "maxWorkers", most_on_cpu(variables, cores));
  }
  out.least = std::min(out.least, out.most);
  return out;
}

} // namespace troupe::config
