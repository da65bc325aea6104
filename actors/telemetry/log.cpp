#include "troupe/actors/telemetry/log.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <poll.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace troupe::telemetry {

namespace {

std::atomic<bool> as_json{false};

/// Standard error, without ever waiting for who reads it: a full pipe would stop the I/O threads.
class stderr_sink final : public spdlog::sinks::base_sink<std::mutex> {
protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    // A pipe that polls writable takes up to PIPE_BUF bytes at once.
    auto size = std::min<size_t>(line.size(), 4096);
    line[size - 1] = '\n';
    pollfd target{STDERR_FILENO, POLLOUT, 0};
    if (poll(&target, 1, 0) != 1 || !(target.revents & POLLOUT)) {
      ++dropped_;
      return;
    }
    if (dropped_ > 0) {
      auto note = std::to_string(dropped_) + " log lines dropped: nobody reads standard error\n";
      dropped_ = 0;
      [[maybe_unused]] auto noted = write(STDERR_FILENO, note.data(), note.size());
      return sink_it_(message);
    }
    [[maybe_unused]] auto written = write(STDERR_FILENO, line.data(), size);
  }
  void flush_() override {}

private:
  uint64_t dropped_ = 0;
};

spdlog::level::level_enum level_of(log_level level) {
  switch (level) {
  case log_level::trace:
    return spdlog::level::trace;
  case log_level::debug:
    return spdlog::level::debug;
  case log_level::info:
    return spdlog::level::info;
  case log_level::warn:
    return spdlog::level::warn;
  case log_level::error:
    return spdlog::level::err;
  case log_level::fatal:
    return spdlog::level::critical;
  case log_level::off:
    break;
  }
  return spdlog::level::off;
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("troupe", std::make_shared<stderr_sink>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %-5l %v");
    return made;
  }();
  return *instance;
}

/// A line break inside a text would let a client forge log lines.
std::string one_line(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (char c : text)
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return result;
}

} // namespace

bool logs(log_level level) {
  return logger().should_log(level_of(level));
}

void log(log_level level, std::string_view request, std::string_view text) {
  if (!logs(level))
    return;
  if (as_json.load(std::memory_order_relaxed)) {
    auto line = "\"text\":" + boost::json::serialize(boost::json::string{text});
    if (!request.empty())
      line = "\"request\":" + boost::json::serialize(boost::json::string{request}) + "," + line;
    logger().log(level_of(level), "{}", line);
  } else if (request.empty()) {
    logger().log(level_of(level), "{}", one_line(text));
  } else {
    logger().log(level_of(level), "[RequestId={}] {}", one_line(request), one_line(text));
  }
}

void set_log_level(log_level level) {
  logger().set_level(level_of(level));
}

std::optional<log_level> log_level_of(std::string_view word) {
  constexpr std::string_view words[] = {"trace", "debug", "info", "warn", "error", "fatal", "off"};
  const auto* found = std::find(std::begin(words), std::end(words), word);
  if (found == std::end(words))
    return std::nullopt;
  return static_cast<log_level>(found - std::begin(words));
}

void configure_log(const log_settings& settings) {
  logger().set_level(level_of(settings.level));
  as_json = settings.json;
  logger().set_pattern(settings.json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                                     : "%Y-%m-%dT%H:%M:%S.%e %-5l %v",
                       settings.json ? spdlog::pattern_time_type::utc
                                     : spdlog::pattern_time_type::local);
}

} // namespace troupe::telemetry
