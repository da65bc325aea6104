#include "troupe/models/sampling/decimal.hpp"

#include <charconv>

namespace troupe::models::sampling {

double decimal(float value) {
  char text[32];
  const auto written = std::to_chars(text, text + sizeof text, value);
  double result = value;
  std::from_chars(text, written.ptr, result);
  return result;
}

} // namespace troupe::models::sampling
