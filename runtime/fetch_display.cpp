#include "troupe/runtime/fetch_display.hpp"

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/runtime/process.hpp"

namespace troupe::runtime {

namespace {

using namespace std::chrono_literals;

constexpr auto interval = 10s;
/// What is over sooner is not worth a line.
constexpr auto first_line = 2s;

std::string sentence(const std::string& url, uint64_t done, uint64_t total,
                     const std::string& what) {
  auto mebibytes = [](uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  return "fetching " + url + ": " + what + ", " + mebibytes(done) +
         (total > 0 ? " of " + mebibytes(total) : "");
}

} // namespace

fetch_display::fetch_display(const std::string& url)
    : url_{url}, bar_{"fetching " + url}, last_{std::chrono::steady_clock::now() - interval +
                                                first_line} {}

void fetch_display::update(uint64_t done, uint64_t total, const std::string& what) {
  if (what.empty())
    return bar_.clear();
  if (on_terminal())
    return bar_.show(total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0);
  auto now = std::chrono::steady_clock::now();
  if (now - last_ < interval)
    return;
  last_ = now;
  telemetry::log(telemetry::log_level::info, {}, sentence(url_, done, total, what));
}

} // namespace troupe::runtime
