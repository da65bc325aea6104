#include "troupe/models/host_memory.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include <sched.h>
#include <unistd.h>

namespace troupe::models {

namespace {

constexpr uint64_t unlimited = std::numeric_limits<uint64_t>::max();

uint64_t number_in(const char* path) {
  std::ifstream file{path};
  uint64_t x = 0;
  return file >> x ? x : unlimited; // also for "max"
}

uint64_t free_in_system() {
  std::ifstream file{"/proc/meminfo"};
  std::string key;
  while (file >> key) {
    if (uint64_t kib = 0; key == "MemAvailable:" && file >> kib)
      return kib << 10;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_AVPHYS_PAGES))) *
         static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// File pages that the control group counts as used, although it gives them back when asked.
uint64_t cached_in_group() {
  std::ifstream file{"/sys/fs/cgroup/memory.stat"};
  std::string key;
  uint64_t bytes = 0, sum = 0;
  while (file >> key >> bytes)
    if (key == "active_file" || key == "inactive_file")
      sum += bytes;
  return sum;
}

/// What the control group (version 2) leaves.
uint64_t free_in_group() {
  const auto limit = number_in("/sys/fs/cgroup/memory.max");
  const auto used = number_in("/sys/fs/cgroup/memory.current");
  if (limit == unlimited || used == unlimited)
    return unlimited;
  const auto held = used - std::min(used, cached_in_group());
  return limit > held ? limit - held : 0;
}

} // namespace

uint64_t available_memory() {
  return std::min(free_in_system(), free_in_group());
}

unsigned usable_processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

} // namespace troupe::models
