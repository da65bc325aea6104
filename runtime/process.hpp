#pragma once

#include <chrono>
#include <string>
#include <thread>

/// What the program asks of the operating system: signals, the terminal.
namespace troupe::runtime {

/// Blocks SIGINT and SIGTERM in this thread and all that it starts afterwards, so that only
/// `wait_signal` sees them, and ignores SIGPIPE. Call before any thread is started.
void take_signals();

/// The next SIGINT or SIGTERM, or 0 when none came in time. @pre take_signals()
int wait_signal(std::chrono::milliseconds timeout);

/// While one lives, the process ends by force after `patience`, or at the next signal, with exit
/// code 1 and `complaint` on standard error: for waits on threads that may be stuck in the system,
/// as in reading from a file server that is gone. @pre take_signals()
class exit_deadline {
public:
  exit_deadline(std::chrono::milliseconds patience, std::string complaint);
  ~exit_deadline(); ///< The process lives on.
  exit_deadline(const exit_deadline&) = delete;
  exit_deadline& operator=(const exit_deadline&) = delete;

private:
  std::jthread watcher_;
};

/// Whether standard error is a terminal that can redraw a line.
bool on_terminal();

} // namespace troupe::runtime
