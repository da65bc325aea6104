#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/resolve.hpp"

namespace troupe::config {

/// Tells which of the known options a place may set.
using takes_option = bool (*)(const option&);

/// Collects what is said about each option, from the weakest place to the strongest, then reads the
/// winners. Whoever offers last wins. One thread.
class collector {
public:
  /// @param base The values of options that nobody offers anything for.
  explicit collector(settings base) : values_{std::move(base)} {}

  /// Offers what a properties file says. `stranger` words the warning about known options that do
  /// not belong into it.
  void offer_file(const std::filesystem::path& file, takes_option takes, std::string_view stranger);

  /// Offers the short-hands of every option that `takes` holds for; of several the first one set.
  void offer_short_hands(const environment& variables, takes_option takes);

  /// The same for the variables that win over files.
  void offer_overrides(const environment& variables, takes_option takes);

  /// Offers every variable that begins with `prefix`; `key_of` turns the rest of its name into a
  /// key. Names of none of ours are warned about.
  void offer_variables(const environment& variables, std::string_view prefix,
                       std::string (*key_of)(std::string_view), takes_option takes);

  /// Offers what flags, or arguments of a call, say.
  void offer_assignments(const std::vector<assignment>& given, source from, takes_option takes);

  /// Reads the winners. Errors: ec::bad_option, one line for every bad value.
  caf::expected<resolved> finish();

private:
  /// The text found for one option so far.
  struct candidate {
    std::string text;
    origin from;
  };

  void offer(size_t index, std::string text, origin from);
  void offer_first(size_t index, std::string_view names, const environment& variables);
  void warn(std::string text);
  void unknown(const std::string& key, const std::string& text, const std::string& where);
  void fail(const std::string& text);
  void read(size_t index, candidate& c);

  settings values_;
  std::array<std::optional<candidate>, option_table.size()> found_;
  std::vector<std::string> warnings_;
  std::string errors_;
};

/// `text` in small letters.
std::string lowered(std::string_view text);

} // namespace troupe::config
