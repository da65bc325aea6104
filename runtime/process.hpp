#pragma once

#include <chrono>

/// What the program asks of the operating system: signals, the terminal.
namespace troupe::runtime {

/// Blocks SIGINT and SIGTERM in this thread and all that it starts afterwards, so that only
/// `wait_signal` sees them, and ignores SIGPIPE. Call before any thread is started.
void take_signals();

/// The next SIGINT or SIGTERM, or 0 when none came in time. @pre take_signals()
int wait_signal(std::chrono::milliseconds timeout);

/// Whether standard error is a terminal that can redraw a line.
bool on_terminal();

} // namespace troupe::runtime
