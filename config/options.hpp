#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/config/option_table.hpp"
#include "troupe/config/rate_limit.hpp"

namespace troupe::config {

/// A parsed value. monostate: unset. int64_t: whole numbers, bytes, and durations in milliseconds.
/// string: text, and the canonical spelling of a choice.
using value =
    std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<std::string>>;

/// Where a value was found. Later ones do not simply win: see `resolve.hpp`.
enum class source : uint8_t { fallback, variable, file, flag, argument };

/// Where a value came from, exactly enough to find it.
struct origin {
  source from = source::fallback;
  std::string where =
      "default"; ///< E.g. "serving.properties:3", "variable OPTION_DTYPE", "flag --dtype".
};

/// All options with their values, read through typed getters:
///
///     settings.integer("option.max_rolling_batch_size")
///
/// A misspelt key or the wrong getter does not compile. A plain value: copy it, read it from any
/// thread.
class settings {
public:
  /// Every option at its default.
  settings();

  bool boolean(key<kind::boolean> k) const { return get<bool>(k.index()); }

  /// 0 when unset. Words count as their numbers: `max` is -1 and `auto` 0.
  int64_t integer(key<kind::integer, kind::bytes> k) const { return get<int64_t>(k.index()); }

  double number(key<kind::number> k) const { return get<double>(k.index()); }

  std::chrono::milliseconds duration(key<kind::seconds, kind::milliseconds> k) const {
    return std::chrono::milliseconds{get<int64_t>(k.index())};
  }

  /// Empty when unset. A choice comes in the spelling of the table.
  const std::string& text(key<kind::text, kind::choice> k) const {
    return get<std::string>(k.index());
  }

  /// Nothing when unset.
  std::optional<rate_limit> rate(key<kind::rate> k) const {
    return parse_rate_limit(get<std::string>(k.index()));
  }

  const std::vector<std::string>& list(key<kind::list> k) const {
    return get<std::vector<std::string>>(k.index());
  }

  /// False for an option without a default that nobody set.
  bool has(key<> k) const { return !std::holds_alternative<std::monostate>(values_[k.index()]); }

  const origin& origin_of(key<> k) const { return origins_[k.index()]; }

  /// Sets an option from text, as a host application or a test does.
  /// Errors: ec::bad_option for an unknown key or a value that is not allowed.
  caf::expected<void> set(std::string_view key, std::string_view text,
                          origin from = {source::flag, "the program"});

  /// By place in `option_table`, for those who walk the whole table.
  const value& at(size_t index) const { return values_[index]; }
  const origin& origin_at(size_t index) const { return origins_[index]; }
  void put(size_t index, value v, origin from);

private:
  template <class T>
  const T& get(size_t index) const {
    static const T unset{};
    auto* x = std::get_if<T>(&values_[index]);
    return x ? *x : unset;
  }

  std::array<value, option_table.size()> values_;
  std::array<origin, option_table.size()> origins_;
};

/// Outcome of reading one value: it may be good and still deserve a word.
struct parsed {
  value result;
  std::string warning; ///< Empty: nothing to say.
};

/// Reads `text` as a value of `o`. Errors: ec::bad_option with "VALUE is not allowed: ...", to
/// which the caller adds the key and the place.
caf::expected<parsed> parse_value(const option& o, std::string_view text);

/// What `o` accepts, e.g. "a whole number from 1 to 65536, or max".
std::string allowed(const option& o);

/// `text` made fit for a log line: control and invalid bytes escaped, cut at 80 bytes.
std::string quotable(std::string_view text);

/// A value as a user would write it; empty when unset.
std::string to_text(const option& o, const value& v);

/// The option with this key, or null.
const option* find_option(std::string_view key);

/// How many letters to insert, delete, change or swap with the next one, whatever their case, until
/// `a` is `b`. Quadratic in time and space: for words.
size_t edit_distance(std::string_view a, std::string_view b);

/// The key that resembles `name` most (misspelt, or without its `option.`), empty when none does.
std::string_view nearest_key(std::string_view name);

/// "SERVING_PORT" for `port`, "OPTION_DTYPE" for `option.dtype`; empty for a model key without
/// prefix.
std::string variable_of(const option& o);

} // namespace troupe::config
