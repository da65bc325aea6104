#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "troupe/runtime/progress_bar.hpp"

namespace troupe::runtime {

/// Shows how far the fetching of one model is: on a terminal as a bar, elsewhere as a line of the
/// log every ten seconds. One thread.
class fetch_display {
public:
  explicit fetch_display(const std::string& url);

  /// @param total Bytes of all; 0: not known.
  /// @param what The file; empty: nothing is being fetched, and nothing is shown.
  void update(uint64_t done, uint64_t total, const std::string& what);

private:
  std::string url_;
  progress_bar bar_;
  std::chrono::steady_clock::time_point last_;
};

} // namespace troupe::runtime
