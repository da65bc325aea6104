#include "troupe/models/loading/mapped_file.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troupe::models {

namespace {

const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));

/// One mapping as the signal handler sees it. `begin` is written last and cleared first, so that a
/// handler on another thread never sees a half-written slot.
struct guard_slot {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> taken{false};
  std::atomic<bool> lost{false};
};

// A model's shards are open together; a few hundred files is far above what is published.
std::array<guard_slot, 512> slots;
struct sigaction previous_action;

void on_bus_error(int number, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (auto& slot : slots) {
    const auto begin = slot.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= slot.end.load(std::memory_order_relaxed))
      continue;
    const int saved = errno;
    auto* page = reinterpret_cast<void*>(address & ~(page_bytes - 1));
    void* zeros =
        ::mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    errno = saved;
    if (zeros == MAP_FAILED)
      break;
    slot.lost.store(true, std::memory_order_relaxed);
    return;
  }
  // Not ours: behave as if we had never been here.
  if ((previous_action.sa_flags & SA_SIGINFO) && previous_action.sa_sigaction != nullptr) {
    previous_action.sa_sigaction(number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(number);
  } else {
    ::signal(number, SIG_DFL); // The instruction runs again and ends the process.
  }
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &previous_action);
  });
}

int take_slot(const void* data, size_t size) {
  for (size_t i = 0; i < slots.size(); ++i) {
    auto& slot = slots[i];
    if (slot.taken.exchange(true))
      continue;
    slot.lost = false;
    const auto begin = reinterpret_cast<uintptr_t>(data);
    slot.end.store((begin + size + page_bytes - 1) & ~(page_bytes - 1), std::memory_order_relaxed);
    slot.begin.store(begin, std::memory_order_release);
    return static_cast<int>(i);
  }
  return -1;
}

caf::error cannot(const char* what, const std::string& path) {
  return caf::make_error(ec::bad_model, std::string{"cannot "} + what + " '" + path +
                                            "': " + std::strerror(errno));
}

} // namespace

caf::expected<std::shared_ptr<mapped_file>> mapped_file::open(const std::string& path) {
  install_handler();
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return cannot("open", path);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return caf::make_error(ec::bad_model, "'" + path + "' is not a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      auto failure = cannot("map", path);
      ::close(fd);
      return failure;
    }
  }
  int guard = -1;
  if (size > 0 && (guard = take_slot(data, size)) < 0) {
    ::munmap(data, size);
    ::close(fd);
    return caf::make_error(ec::bad_model, "cannot open '" + path +
                                              "': " + std::to_string(slots.size()) +
                                              " weight files are open already");
  }
  return std::shared_ptr<mapped_file>{
      new mapped_file{path, static_cast<const std::byte*>(data), size, fd, guard}};
}

mapped_file::~mapped_file() {
  ::close(file_);
  if (data_ == nullptr)
    return;
  ::munmap(const_cast<std::byte*>(data_), size_);
  auto& slot = slots[static_cast<size_t>(guard_)];
  slot.begin.store(0, std::memory_order_release);
  slot.taken.store(false, std::memory_order_release);
}

bool mapped_file::intact() const {
  // The rest of the last page that is left reads as zeros without any signal, so length counts too.
  struct stat info {};
  if (::fstat(file_, &info) != 0 || static_cast<uint64_t>(info.st_size) < size_)
    return false;
  return data_ == nullptr ||
         !slots[static_cast<size_t>(guard_)].lost.load(std::memory_order_relaxed);
}

void mapped_file::prefetch(size_t offset, size_t size) const {
  const auto begin = offset & ~(page_bytes - 1);
  if (data_ != nullptr && begin < size_)
    ::madvise(const_cast<std::byte*>(data_) + begin, std::min(offset + size, size_) - begin,
              MADV_WILLNEED);
}

void mapped_file::release(size_t offset, size_t size) const {
  // Pages that are shared with a neighbour stay; they go when that one is released or at the end.
  const auto begin = (offset + page_bytes - 1) & ~(page_bytes - 1);
  const auto end = std::min(offset + size, size_) & ~(page_bytes - 1);
  if (data_ != nullptr && begin < end)
    ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

} // namespace troupe::models
