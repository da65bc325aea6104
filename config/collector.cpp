#include "troupe/config/collector.hpp"

#include <algorithm>
#include <map>

#include "troupe/config/lmi_keys.hpp"
#include "troupe/config/properties.hpp"

namespace troupe::config {

namespace {

bool contains_folded(std::string_view text, std::string_view part) {
  auto equal = [](char a, char b) { return (a | 0x20) == b; };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), equal) != text.end();
}

/// "key=value" for a message, without what may be a secret.
std::string shown(const std::string& key, const std::string& text) {
  for (auto part : {"token", "pass", "secret", "credential"})
    if (contains_folded(key, part))
      return key + "=***";
  constexpr size_t longest = 80;
  return key + '=' + (text.size() > longest ? text.substr(0, longest) + "..." : text);
}

/// The option that a file means by `key`, which may be an alias; the table's size when there is
/// none.
size_t index_in_file(std::string_view key) {
  for (size_t i = 0; i < option_table.size(); ++i)
    if (!option_table[i].alias.empty() && option_table[i].alias == key)
      return i;
  return index_of(key);
}

template <class F>
void each_name(std::string_view names, F&& visit) {
  while (!names.empty()) {
    auto end = std::min(names.find(' '), names.size());
    visit(names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
}

/// Whether `variable` is a short-hand of some option, so that its name is no key.
bool is_short_hand(std::string_view variable) {
  bool found = false;
  for (const auto& o : option_table)
    each_name(o.variables, [&](std::string_view name) { found = found || name == variable; });
  return found;
}

} // namespace

std::string lowered(std::string_view text) {
  std::string out{text};
  for (char& c : out)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

void collector::offer(size_t index, std::string text, origin from) {
  auto& place = found_[index];
  if (place && place->from.from == source::flag && from.from != source::flag)
    warn(place->from.where + " is ignored, because " + from.where + " wins over it");
  place = candidate{std::move(text), std::move(from)};
}

void collector::offer_file(const std::filesystem::path& file, takes_option takes,
                           std::string_view stranger) {
  auto entries = read_properties(file);
  if (!entries)
    return fail(text_of(entries.error()));
  std::map<std::string, size_t> seen;
  // An alias goes first, so that the proper key wins wherever it stands.
  std::stable_partition(entries->begin(), entries->end(), [](const property& entry) {
    return index_in_file(entry.key) != index_of(entry.key);
  });
  for (auto& entry : *entries) {
    auto where = file.string() + ":" + std::to_string(entry.line);
    if (auto [at, fresh] = seen.emplace(entry.key, entry.line); !fresh) {
      warn(entry.key + " (" + where + ") replaces that of line " + std::to_string(at->second));
      at->second = entry.line;
    }
    auto index = index_in_file(entry.key);
    if (index == option_table.size())
      unknown(entry.key, entry.text, where);
    else if (!takes(option_table[index]))
      warn(shown(entry.key, entry.text) + " (" + where + ") " + std::string{stranger});
    else if (entry.text.empty())
      warn(entry.key + " (" + where + ") is empty and counts as unset");
    else
      offer(index, std::move(entry.text), {source::file, where});
  }
}

void collector::offer_first(size_t index, std::string_view names, const environment& variables) {
  bool done = false;
  each_name(names, [&](std::string_view name) {
    auto plus = name.find('+');
    auto at = variables.find(name.substr(0, plus));
    if (done || at == variables.end() || at->second.empty())
      return;
    done = true;
    auto text = at->second;
    if (plus != std::string_view::npos)
      text += name.substr(plus + 1);
    offer(index, std::move(text), {source::variable, "variable " + at->first});
  });
}

void collector::offer_short_hands(const environment& variables, takes_option takes) {
  for (size_t i = 0; i < option_table.size(); ++i)
    if (takes(option_table[i]))
      offer_first(i, option_table[i].variables, variables);
}

void collector::offer_overrides(const environment& variables, takes_option takes) {
  for (size_t i = 0; i < option_table.size(); ++i)
    if (takes(option_table[i]))
      offer_first(i, option_table[i].overrides, variables);
}

void collector::offer_variables(const environment& variables, std::string_view prefix,
                                std::string (*key_of)(std::string_view), takes_option takes) {
  for (auto at = variables.lower_bound(prefix);
       at != variables.end() && at->first.starts_with(prefix); ++at) {
    if (at->second.empty() || is_short_hand(at->first))
      continue;
    auto key = key_of(std::string_view{at->first}.substr(prefix.size()));
    auto index = index_of(key);
    auto where = "variable " + at->first;
    if (index < option_table.size() && takes(option_table[index]))
      offer(index, at->second, {source::variable, where});
    else
      unknown(key, at->second, where);
  }
}

void collector::offer_assignments(const std::vector<assignment>& given, source from,
                                  takes_option takes) {
  for (const auto& one : given) {
    auto index = index_of(one.key);
    if (index < option_table.size() && takes(option_table[index]))
      offer(index, one.text, {from, one.where});
  }
}

caf::expected<resolved> collector::finish() {
  for (size_t i = 0; i < option_table.size(); ++i)
    if (auto& c = found_[i])
      read(i, *c);
  if (!errors_.empty())
    return caf::make_error(ec::bad_option, std::move(errors_));
  return resolved{std::move(values_), std::move(warnings_)};
}

void collector::warn(std::string text) {
  if (std::find(warnings_.begin(), warnings_.end(), text) == warnings_.end())
    warnings_.push_back(std::move(text));
}

void collector::unknown(const std::string& key, const std::string& text, const std::string& where) {
  std::string sentence = shown(key, text) + " (" + where + ") ";
  if (is_lmi_key(key))
    return warn(sentence + "is a setting of LMI that has no effect here");
  sentence += "is not a known setting and ignored";
  if (auto near = nearest_key(key); !near.empty())
    sentence += "; did you mean " + std::string{near} + "?";
  else
    sentence += "; `troupe options` lists what there is";
  warn(std::move(sentence));
}

void collector::fail(const std::string& text) {
  errors_ += (errors_.empty() ? "" : "\n") + text;
}

void collector::read(size_t index, candidate& c) {
  const auto& o = option_table[index];
  auto place = std::string{o.key} + " (" + c.from.where + "): ";
  auto p = parse_value(o, c.text);
  if (!p && !o.lenient) {
    auto complaint = o.complaint.empty() ? "" : std::string{o.complaint} + quotable(c.text) + "; ";
    return fail(complaint + place + text_of(p.error()));
  }
  if (!p) {
    auto kept = to_text(o, values_.at(index));
    return warn(place + text_of(p.error()) + "; it stays " + (kept.empty() ? "unset" : kept));
  }
  if (!p->warning.empty())
    warn(place + p->warning);
  values_.put(index, std::move(p->result), std::move(c.from));
}

} // namespace troupe::config
