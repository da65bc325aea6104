#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/http/json/value.hpp"

namespace troupe::http {

/// What is wrong with a request: which parameter, and a sentence for its author.
struct problem {
  std::string parameter; ///< Empty when it is about the body as a whole.
  std::string message;
};

/// A range as the contract writes it; an absent border is open.
template <class T>
struct range {
  std::optional<T> low;
  std::optional<T> high;
  bool low_excluded = false; ///< low < x rather than low <= x.
};

/// Takes typed parameters out of a JSON object. Numeric and boolean strings are accepted for
/// numbers and booleans, null means absent, the first of several aliases that is given counts. The
/// first problem is kept; everything after it reads as absent, so callers check once, at the end.
class field_reader {
public:
  /// @param from An object (anything else reads as empty); outlives the reader.
  explicit field_reader(const json::value& from) : from_(from) {}

  std::optional<int64_t> integer(std::initializer_list<std::string_view> names,
                                 range<int64_t> allowed = {});
  std::optional<uint64_t> unsigned_integer(std::initializer_list<std::string_view> names);
  std::optional<double> number(std::initializer_list<std::string_view> names,
                               range<double> allowed = {});
  std::optional<bool> boolean(std::initializer_list<std::string_view> names);
  std::optional<std::string> string(std::initializer_list<std::string_view> names);
  /// One string or an array of them.
  std::optional<std::vector<std::string>> strings(std::initializer_list<std::string_view> names);
  /// One token id or an array of them, each >= 0.
  std::optional<std::vector<int32_t>> token_ids(std::initializer_list<std::string_view> names);
  /// The raw member, marked as known; null when absent or null.
  const json::value* raw(std::initializer_list<std::string_view> names);

  void fail(std::string_view parameter, std::string message);
  const std::optional<problem>& failed() const { return problem_; }

  /// Members that nobody asked for.
  std::vector<std::string> unknown() const;

private:
  const json::value& from_;
  std::vector<std::string_view> known_;
  std::optional<problem> problem_;
  std::string_view found_; ///< Name under which `raw` found the last member.
};

/// A number, or a string that holds one; nullopt for anything else and for what is not finite.
std::optional<double> to_number(const json::value& x);

/// An array of token ids, as prompts are given. nullopt when an element is none.
std::optional<std::vector<int32_t>> to_token_ids(const json::array& from);

} // namespace troupe::http
