#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <caf/expected.hpp>

/// Who may use the server, how often, and in which order when several want to at once.
namespace troupe::http {

/// So many requests in any `seconds`; as many may come at once.
struct key_rate {
  double requests = 0;
  double seconds = 1;
};

/// A secret that clients present, and what goes with it.
struct api_key {
  std::string secret;
  std::string name; ///< For messages, in place of the secret.
  std::optional<key_rate> rate;
};

/// Reads `KEY [name=NAME] [rate=N/s|m|h]`. Errors: ec::bad_option; the message holds no secret.
caf::expected<api_key> parse_api_key(std::string_view line);

/// Reads one key per line; empty lines and those that begin with # don't count. Errors:
/// ec::bad_option with file, line and reason.
caf::expected<std::vector<api_key>> read_api_keys(const std::string& file);

/// The keys of a server. Keeps no secrets, only their digests. Any thread.
class key_ring {
public:
  using clock = std::chrono::steady_clock;

  key_ring() = default;
  explicit key_ring(const std::vector<api_key>& keys);

  /// Nobody needs a key.
  bool empty() const { return entries_.empty(); }

  /// Which key this is. Takes the same time whatever is presented.
  std::optional<size_t> find(std::string_view presented) const;

  const std::string& name(size_t key) const { return entries_[key].name; }

  /// Takes one request from what the key is allowed.
  /// @returns zero, or how long to wait before the next one is.
  std::chrono::milliseconds spend(size_t key, clock::time_point now = clock::now());

  /// The turn of a request that this key brings: requests run in the order of their turns, so that
  /// keys which want to run at the same time alternate, however many requests each has brought.
  /// Source: Goyal, Vin and Cheng, "Start-time fair queueing", SIGCOMM 1996; all costs are 1.
  uint64_t next_turn(size_t key);

  /// A request with that turn runs.
  void began(uint64_t turn);

private:
  using digest = std::array<unsigned char, 32>;
  struct entry {
    digest hash{};
    std::string name;
    std::optional<key_rate> rate;
    double allowance = 0; ///< Requests that may come now.
    clock::time_point counted{};
    uint64_t finish = 0; ///< Turn after the latest of its requests.
  };

  static digest digest_of(std::string_view secret);

  std::vector<entry> entries_;
  std::mutex mutex_;
  uint64_t now_ = 0; ///< The highest turn that has begun.
};

} // namespace troupe::http
