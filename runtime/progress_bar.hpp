#pragma once

#include <chrono>
#include <string>

namespace troupe::runtime {

/// One line on standard error that is redrawn as work goes on; draws nothing where standard error
/// is no terminal. One thread.
class progress_bar {
public:
  explicit progress_bar(std::string title);
  ~progress_bar();

  /// @param share 0..1
  void show(double share);

  /// Wipes the line, so that what is printed next starts on a clean one.
  void clear();

private:
  std::string title_;
  std::chrono::steady_clock::time_point begin_;
  bool visible_ = false;
  bool terminal_;
};

} // namespace troupe::runtime
