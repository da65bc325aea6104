#include "troupe/actors/memory_ledger.hpp"

#include <cstdio>
#include <fstream>

#include <unistd.h>

namespace troupe {

namespace {

std::string in_units(uint64_t bytes) {
  char text[32];
  if (bytes >= uint64_t{1} << 30)
    std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1u << 30));
  else
    std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1u << 20));
  return text;
}

} // namespace

uint64_t memory_ledger::capacity(const std::string& device) const {
  auto it = capacity_.find(device);
  return it == capacity_.end() ? 0 : it->second;
}

uint64_t memory_ledger::reserved(const std::string& device) const {
  uint64_t sum = 0;
  if (auto it = held_.find(device); it != held_.end())
    for (const auto& [owner, bytes] : it->second)
      sum += bytes;
  return sum;
}

caf::error memory_ledger::reserve(const std::string& device, const std::string& owner,
                                  uint64_t weight_bytes, uint64_t kv_bytes, uint64_t spare) {
  auto& held = held_[device];
  auto mine = held.count(owner) ? held[owner] : 0;
  auto others = reserved(device) - mine;
  auto need = weight_bytes + kv_bytes;
  auto all = capacity(device);
  auto left = all > others ? all - others : 0;
  if (need > 0 && need + spare > left)
    return caf::make_error(
        ec::out_of_memory,
        "model '" + owner + "' needs " + in_units(need) + " on " + device + " (weights " +
            in_units(weight_bytes) + ", KV cache " + in_units(kv_bytes) + "), but " +
            in_units(left) + " of " + in_units(all) + " are left" +
            (spare > 0 ? ", of which " + in_units(spare) + " stay free (reserved_memory_mb)" : "") +
            ": lower max_rolling_batch_size or max_model_len, choose a smaller dtype or "
            "option.quantize, or unload another model");
  if (need == 0)
    held.erase(owner);
  else
    held[owner] = need;
  return caf::none;
}

void memory_ledger::release(const std::string& owner) {
  for (auto& [device, held] : held_)
    held.erase(owner);
}

uint64_t usable_memory() {
  auto physical =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  // A container's limit; the file holds "max" where there is none.
  std::ifstream file{"/sys/fs/cgroup/memory.max"};
  uint64_t limit = 0;
  return file >> limit && limit < physical ? limit : physical;
}

} // namespace troupe
