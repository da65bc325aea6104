#include "troupe/runtime/progress_bar.hpp"

#include <algorithm>
#include <cstdio>

#include "troupe/runtime/process.hpp"

namespace troupe::runtime {

progress_bar::progress_bar(std::string title)
    : title_(std::move(title)), begin_(std::chrono::steady_clock::now()), terminal_(on_terminal()) {
}

progress_bar::~progress_bar() {
  clear();
}

void progress_bar::show(double share) {
  if (!terminal_)
    return;
  constexpr int width = 30;
  share = std::clamp(share, 0.0, 1.0);
  auto full = static_cast<int>(share * width);
  std::string bar(static_cast<size_t>(full), '#');
  bar.resize(width, '.');
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin_;
  std::fprintf(stderr, "\r%s [%s] %3d %%  %.1f s\x1b[K", title_.c_str(), bar.c_str(),
               static_cast<int>(share * 100), elapsed.count());
  std::fflush(stderr);
  visible_ = true;
}

void progress_bar::clear() {
  if (!visible_)
    return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  visible_ = false;
}

} // namespace troupe::runtime
