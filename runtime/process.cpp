#include "troupe/runtime/process.hpp"

#include <csignal>
#include <cstdio>
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

exit_deadline::exit_deadline(std::chrono::milliseconds patience, std::string complaint)
    : watcher_([patience, complaint = std::move(complaint)](std::stop_token released) {
        const auto end = std::chrono::steady_clock::now() + patience;
        int caught = 0;
        while (!released.stop_requested() && caught == 0 && std::chrono::steady_clock::now() < end)
          caught = wait_signal(std::chrono::milliseconds{20});
        if (released.stop_requested())
          return;
        std::fprintf(stderr, "troupe: %s\n", complaint.c_str());
        std::_Exit(1);
      }) {}

exit_deadline::~exit_deadline() = default;

bool on_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && (!term || std::string_view{term} != "dumb");
}

} // namespace troupe::runtime
