#include "troupe/examples/load_test/load/lengths.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "troupe/config/error.hpp"

namespace troupe::load_test {

namespace {

constexpr double most_tokens = 1 << 24;

std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> out;
  for (;;) {
    auto end = text.find(':');
    out.push_back(text.substr(0, end));
    if (end == std::string_view::npos)
      return out;
    text.remove_prefix(end + 1);
  }
}

bool number(std::string_view text, double& to) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
  return error == std::errc{} && end == text.data() + text.size() && to >= 0 && to <= most_tokens;
}

} // namespace

uint32_t length_distribution::draw(random_source& random) const {
  auto value = first;
  switch (kind) {
  case shape::fixed:
    return static_cast<uint32_t>(first);
  case shape::uniform:
    value = first + static_cast<double>(random.below(static_cast<uint64_t>(second - first) + 1));
    break;
  case shape::normal:
    value = first + second * random.normal();
    break;
  case shape::exponential:
    value = first * random.exponential();
    break;
  }
  return static_cast<uint32_t>(std::clamp(std::round(value), 1.0, most_tokens));
}

caf::expected<length_distribution> parse_lengths(std::string_view text) {
  using shape = length_distribution::shape;
  auto parts = parts_of(text);
  length_distribution out;
  auto fits = [&](size_t numbers) {
    auto begin = parts.size() - numbers;
    return parts.size() >= numbers && number(parts[begin], out.first) &&
           (numbers == 1 || number(parts[begin + 1], out.second));
  };
  auto is = [&](std::string_view name, size_t numbers) {
    return parts[0] == name && parts.size() == numbers + 1 && fits(numbers);
  };
  if (parts.size() == 1 && fits(1) && out.first == std::floor(out.first))
    return out;
  if (is("uniform", 2) && out.first <= out.second && out.first >= 1 &&
      out.first == std::floor(out.first) && out.second == std::floor(out.second)) {
    out.kind = shape::uniform;
    return out;
  }
  if (is("normal", 2)) {
    out.kind = shape::normal;
    return out;
  }
  if (is("exponential", 1)) {
    out.kind = shape::exponential;
    return out;
  }
  return caf::make_error(ec::bad_option,
                         '"' + std::string{text} +
                             "\" is no length; allowed: a number as 64, uniform:LOW:HIGH as "
                             "uniform:16:128, normal:MEAN:DEVIATION, exponential:MEAN");
}

} // namespace troupe::load_test
