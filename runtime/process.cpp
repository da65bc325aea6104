#include "troupe/runtime/process.hpp"

#include <csignal>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include <pthread.h>
#include <unistd.h>

namespace troupe::runtime {

namespace {
sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}
} // namespace

void take_signals() {
  auto set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int wait_signal(std::chrono::milliseconds timeout) {
  auto set = watched();
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  timespec wait{};
  wait.tv_sec = seconds.count();
  wait.tv_nsec = std::chrono::nanoseconds{timeout - seconds}.count();
  auto caught = sigtimedwait(&set, nullptr, &wait);
  return caught > 0 ? caught : 0;
}

bool on_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && (!term || std::string_view{term} != "dumb");
}

} // namespace troupe::runtime
