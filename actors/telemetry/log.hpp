#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

/// One door to the log for everybody from actors/ upwards. runtime/ decides what it looks like.
/// All functions may be called from any thread; none waits for whoever reads standard error: lines
/// that it cannot take are dropped and counted.
namespace troupe::telemetry {

enum class log_level : uint8_t { trace, debug, info, warn, error, fatal, off };

/// Whether a line of this level would be written; guards the making of costly texts.
bool logs(log_level level);

/// Writes one line. `request` is the id of the request that it is about, empty when it is about
/// none.
void log(log_level level, std::string_view request, std::string_view text);

/// How the log looks. Until this is called lines go to standard error as text from `info` on.
struct log_settings {
  log_level level = log_level::info;
  bool json = false; ///< One JSON object per line: {"time", "level", "request"?, "text"}.
};
void configure_log(const log_settings& settings);

/// Changes the level alone, while the process runs.
void set_log_level(log_level level);

/// The level of that word (trace, debug, info, warn, error, fatal, off); nullopt for others.
std::optional<log_level> log_level_of(std::string_view word);

} // namespace troupe::telemetry
