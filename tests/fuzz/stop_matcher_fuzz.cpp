#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "troupe/actors/stop_matcher.hpp"

using namespace troupe;

namespace {

/// By definition: of all occurrences the one that ends first, of those the one that began first.
std::optional<stop_matcher::match> naive(const std::vector<std::string>& stops,
                                         const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<stop_matcher::match> best;
    for (const auto& stop : stops)
      if (!stop.empty() && stop.size() <= end &&
          text.compare(end - stop.size(), stop.size(), stop) == 0 &&
          (!best || end - stop.size() < best->begin))
        best = stop_matcher::match{end - stop.size(), end};
    if (best)
      return best;
  }
  return std::nullopt;
}

/// The longest end of `text` that begins a stop string.
size_t naive_held(const std::vector<std::string>& stops, const std::string& text) {
  size_t longest = 0;
  for (const auto& stop : stops)
    for (size_t n = std::min(stop.size(), text.size()); n > longest; --n)
      if (text.compare(text.size() - n, n, stop, 0, n) == 0)
        longest = n;
  return longest;
}

} // namespace

/// Stop strings up to a line feed, split at commas; then the text, cut into pieces by its bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 2048)
    return 0;
  std::string all{reinterpret_cast<const char*>(data), size};
  auto line = all.find('\n');
  if (line == std::string::npos)
    return 0;
  std::vector<std::string> stops{""};
  for (char c : all.substr(0, line))
    if (c == ',')
      stops.emplace_back();
    else
      stops.back() += c;
  const auto text = all.substr(line + 1);
  const auto expected = naive(stops, text);

  stop_matcher matcher{stops};
  stop_matcher::cursor at;
  std::optional<stop_matcher::match> found;
  for (size_t begin = 0; begin < text.size() && !found;) {
    auto length = 1 + static_cast<size_t>(static_cast<unsigned char>(text[begin])) % 7;
    auto piece = std::string_view{text}.substr(begin, length);
    found = matcher.advance(at, piece);
    begin += piece.size();
    if (!found && matcher.held(at) != naive_held(stops, text.substr(0, begin)))
      std::abort();
  }
  if (found != expected)
    std::abort();
  return 0;
}
