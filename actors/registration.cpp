#include "troupe/actors/registration.hpp"

#include <algorithm>

namespace troupe {

namespace {

constexpr int64_t most_workers = 1'000'000;

/// What the group at `index` gets of a number for all; the first ones get what is left over.
uint32_t share_of(uint32_t total, size_t groups, size_t index) {
  const auto count = static_cast<uint32_t>(groups);
  return total / count + (index < total % count ? 1 : 0);
}

size_t places(const device_groups& groups) {
  return std::max<size_t>(groups.size(), 1);
}

bool is_on(const device_groups& groups, size_t index, int32_t device) {
  if (groups.empty())
    return device < 0;
  const auto& group = groups[index];
  return std::find(group.begin(), group.end(), device) != group.end();
}

void change(uint32_t& min, uint32_t& max, const worker_scaling& wanted) {
  if (wanted.max >= 0)
    max = static_cast<uint32_t>(std::min(wanted.max, most_workers));
  if (wanted.min >= 0)
    min = static_cast<uint32_t>(std::min(wanted.min, most_workers));
  min = std::min(min, max);
}

caf::error no_place(const worker_scaling& wanted, const device_groups& groups, int32_t device) {
  auto text = "model '" + label_of(wanted.model, wanted.version) + "' ";
  if (groups.empty())
    return caf::make_error(ec::bad_option, text + "is on the CPU, so device " +
                                               std::to_string(device) +
                                               " gets no worker of it: register it anew with "
                                               "that device");
  std::string known;
  for (const auto& group : groups)
    for (auto one : group)
      known += (known.empty() ? "" : ", ") + std::to_string(one);
  return caf::make_error(ec::bad_option,
                         text + "is for the GPUs " + known + " (load_on_devices), not for device " +
                             std::to_string(device) +
                             (device < 0 ? ": on the CPU it would not give the same answers; "
                                           "register it there under another name"
                                         : ""));
}

} // namespace

void count_for_gpus(registration& as, const device_groups& groups, bool chosen) {
  const auto usual = chosen ? static_cast<uint32_t>(groups.size()) : 1;
  as.max_workers = as.gpu_max_workers == unset_workers ? usual : as.gpu_max_workers;
  as.min_workers = as.gpu_min_workers == unset_workers ? usual : as.gpu_min_workers;
  as.min_workers = std::min(as.min_workers, as.max_workers);
  as.counted_together = chosen;
}

device_workers workers_on(const registration& as, const device_groups& groups, size_t index) {
  device_workers on{groups.empty() ? -1 : groups[index].front(), as.min_workers, as.max_workers};
  if (as.counted_together && !groups.empty()) {
    on.max = share_of(as.max_workers, groups.size(), index);
    on.min = std::min(on.max, share_of(as.min_workers, groups.size(), index));
  }
  for (const auto& other : as.on_devices)
    if (is_on(groups, index, other.device))
      on = {on.device, other.min, other.max};
  return on;
}

bool any_workers(const registration& as, const device_groups& groups) {
  for (size_t i = 0; i < places(groups); ++i)
    if (workers_on(as, groups, i).max > 0)
      return true;
  return false;
}

caf::expected<registration> scaled(registration as, const worker_scaling& wanted,
                                   const device_groups& groups) {
  const bool elsewhere =
      std::any_of(wanted.devices.begin(), wanted.devices.end(), [](auto d) { return d >= 0; });
  if (wanted.devices.empty() || (groups.empty() && !elsewhere)) {
    change(as.min_workers, as.max_workers, wanted);
    as.gpu_min_workers = as.min_workers;
    as.gpu_max_workers = as.max_workers;
    as.on_devices.clear();
    return as;
  }
  for (auto device : wanted.devices) {
    size_t index = 0;
    while (index < places(groups) && !is_on(groups, index, device))
      ++index;
    if (index == places(groups))
      return no_place(wanted, groups, device);
    auto on = workers_on(as, groups, index);
    change(on.min, on.max, wanted);
    std::erase_if(as.on_devices, [&](const auto& x) { return is_on(groups, index, x.device); });
    as.on_devices.push_back(on);
  }
  return as;
}

} // namespace troupe
