#include "troupe/config/workers.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace troupe::config {

namespace {

using integer_key = key<kind::integer, kind::bytes>;

/// The device's form, else the plain one, else nothing.
std::optional<uint32_t> first_set(const settings& model, integer_key of_device, integer_key plain) {
  for (auto k : {of_device, plain})
    if (model.at(k.index()).index() != 0)
      return static_cast<uint32_t>(model.integer(k));
  return std::nullopt;
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
  const auto least = on_gpu ? first_set(model, "gpu.minWorkers", "minWorkers")
                            : first_set(model, "cpu.minWorkers", "minWorkers");
  const auto most = on_gpu ? first_set(model, "gpu.maxWorkers", "maxWorkers")
                           : first_set(model, "cpu.maxWorkers", "maxWorkers");
  worker_limits out;
  out.least_given = least.has_value();
  out.most_given = most.has_value();
  out.least = least.value_or(1);
  out.most = most.value_or(on_gpu ? 1 : most_on_cpu(variables, cores));
  if (!on_gpu || out.most_given)
    out.least = std::min(out.least, out.most);
  return out;
}

} // namespace troupe::config
