#include "troupe/config/options.hpp"

#include <algorithm>

namespace troupe::config {

namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

constexpr std::string_view prefix = "option.";

/// A key without its `option.`, which may be written in any case.
std::string_view bare(std::string_view key) {
  bool has = key.size() > prefix.size() &&
             std::equal(prefix.begin(), prefix.end(), key.begin(),
                        [](char expected, char c) { return expected == lower(c); });
  return has ? key.substr(prefix.size()) : key;
}

} // namespace

const option* find_option(std::string_view key) {
  auto i = index_of(key);
  return i < option_table.size() ? &option_table[i] : nullptr;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j)
    d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      auto x = lower(a[i - 1]), y = lower(b[j - 1]);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (x == y ? 0 : 1)});
      if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y)
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

std::string_view nearest_key(std::string_view name) {
  constexpr size_t longest = 100; // nobody misspells more than that, and the search is quadratic
  if (name.empty() || name.size() > longest)
    return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, bare(name).size() / 4) + 1;
  for (auto& o : option_table)
    if (auto d = edit_distance(bare(name), bare(o.key)); d < best_distance) {
      best_distance = d;
      best = o.key;
    }
  return best;
}

std::string variable_of(const option& o) {
  bool model_option = o.key.starts_with(prefix);
  if (!model_option && o.level == scope::model)
    return o.key == "engine" ? "OPTION_ENGINE" : "";
  std::string out = model_option ? "OPTION_" : "SERVING_";
  for (char c : bare(o.key))
    out += upper(c);
  return out;
}

settings::settings() {
  for (size_t i = 0; i < option_table.size(); ++i)
    if (!option_table[i].fallback.empty())
      if (auto p = parse_value(option_table[i], option_table[i].fallback))
        values_[i] = std::move(p->result);
}

caf::expected<void> settings::set(std::string_view key, std::string_view text, origin from) {
  auto i = index_of(key);
  if (i == option_table.size()) {
    auto near = nearest_key(key);
    return caf::make_error(ec::bad_option,
                           "unknown option " + std::string{key.substr(0, 80)} +
                               (near.empty() ? "" : "; did you mean " + std::string{near} + "?"));
  }
  auto p = parse_value(option_table[i], text);
  if (!p)
    return caf::make_error(ec::bad_option, std::string{key} + ": " + text_of(p.error()));
  put(i, std::move(p->result), std::move(from));
  return caf::unit;
}

void settings::put(size_t index, value v, origin from) {
  values_[index] = std::move(v);
  origins_[index] = std::move(from);
}

} // namespace troupe::config
