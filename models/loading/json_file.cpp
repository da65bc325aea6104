#include "troupe/models/loading/json_file.hpp"

#include <cmath>
#include <filesystem>

#include <simdjson.h>

namespace troupe::models {

struct json_file::document {
  std::string path;
  simdjson::dom::parser parser;
  caf::error error;
};

struct json_file::node {
  simdjson::dom::object object;

  /// Null counts as absent, as transformers treats its configurations.
  std::optional<simdjson::dom::element> find(std::string_view key) const {
    simdjson::dom::element value;
    if (object[key].get(value) || value.is_null())
      return {};
    return value;
  }
};

namespace {

constexpr uint64_t max_bytes = 16 << 20;

std::string range(double low, double high) {
  auto text = [](double x) {
    auto s = std::to_string(x);
    while (s.back() == '0')
      s.pop_back();
    if (s.back() == '.')
      s.pop_back();
    return s;
  };
  return text(low) + " to " + text(high);
}

/// A whole number, also when it is written as 8.0.
bool whole(simdjson::dom::element value, int64_t& out) {
  if (!value.get(out))
    return true;
  double x = 0;
  if (value.get(x) || std::floor(x) != x || std::abs(x) > 1e15)
    return false;
  out = static_cast<int64_t>(x);
  return true;
}

} // namespace

caf::expected<json_file> json_file::open(const std::string& path) {
  auto bad = [&](const std::string& what) {
    return caf::make_error(ec::bad_model, "'" + path + "' " + what);
  };
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  if (failure)
    return bad("cannot be read: " + failure.message());
  if (size > max_bytes)
    return bad("is larger than 16 MB");
  auto document = std::make_shared<json_file::document>();
  document->path = path;
  simdjson::dom::element root;
  if (auto err = document->parser.load(path).get(root))
    return bad(std::string{"is not valid JSON: "} + simdjson::error_message(err));
  auto top = std::make_shared<node>();
  if (root.get(top->object))
    return bad("is not a JSON object");
  return json_file{std::move(document), std::move(top), ""};
}

const std::string& json_file::path() const {
  return document_->path;
}

caf::error json_file::error() const {
  return document_->error;
}

void json_file::refuse(const std::string& what, ec code) const {
  if (!document_->error)
    document_->error = caf::make_error(code, "'" + document_->path + "': " + what);
}

void json_file::refuse_field(std::string_view key, const std::string& what) const {
  refuse("field '" + prefix_ + std::string{key} + "' " + what);
}

bool json_file::has(std::string_view key) const {
  return node_->find(key).has_value();
}

std::optional<json_file> json_file::object(std::string_view key) const {
  auto value = node_->find(key);
  if (!value)
    return {};
  auto inner = std::make_shared<node>();
  if (value->get(inner->object)) {
    refuse_field(key, "is not a JSON object");
    return {};
  }
  return json_file{document_, std::move(inner), prefix_ + std::string{key} + "."};
}

int64_t json_file::integer(std::string_view key, int64_t low, int64_t high,
                           std::optional<int64_t> fallback) const {
  auto value = node_->find(key);
  if (!value) {
    if (!fallback)
      refuse_field(key, "is missing");
    return fallback.value_or(low);
  }
  int64_t x = 0;
  if (!whole(*value, x) || x < low || x > high) {
    refuse_field(key, "is not a whole number from " + std::to_string(low) + " to " +
                          std::to_string(high));
    return low;
  }
  return x;
}

double json_file::number(std::string_view key, double low, double high,
                         std::optional<double> fallback) const {
  auto value = node_->find(key);
  if (!value) {
    if (!fallback)
      refuse_field(key, "is missing");
    return fallback.value_or(low);
  }
  double x = 0;
  if (value->get(x) || !std::isfinite(x) || x < low || x > high) {
    refuse_field(key, "is not a number from " + range(low, high));
    return low;
  }
  return x;
}

bool json_file::boolean(std::string_view key, bool fallback) const {
  auto value = node_->find(key);
  if (!value)
    return fallback;
  bool x = fallback;
  if (value->get(x))
    refuse_field(key, "is neither true nor false");
  return x;
}

std::string json_file::text(std::string_view key, std::optional<std::string> fallback) const {
  auto value = node_->find(key);
  if (!value) {
    if (!fallback)
      refuse_field(key, "is missing");
    return fallback.value_or("");
  }
  std::string_view x;
  if (value->get(x))
    refuse_field(key, "is not a text");
  return std::string{x};
}

std::vector<int32_t> json_file::integers(std::string_view key, int64_t low, int64_t high) const {
  std::vector<int32_t> result;
  auto value = node_->find(key);
  if (!value)
    return result;
  auto add = [&](simdjson::dom::element item) {
    int64_t x = 0;
    if (whole(item, x) && x >= low && x <= high)
      result.push_back(static_cast<int32_t>(x));
    else
      refuse_field(key, "holds something else than whole numbers from " + std::to_string(low) +
                            " to " + std::to_string(high));
  };
  simdjson::dom::array list;
  if (value->get(list)) {
    add(*value);
  } else {
    for (auto item : list)
      add(item);
  }
  return result;
}

std::vector<std::string> json_file::texts(std::string_view key) const {
  std::vector<std::string> result;
  auto value = node_->find(key);
  if (!value)
    return result;
  simdjson::dom::array list;
  if (value->get(list)) {
    refuse_field(key, "is not a list of texts");
    return result;
  }
  for (auto item : list) {
    std::string_view x;
    if (item.get(x)) {
      refuse_field(key, "is not a list of texts");
      return {};
    }
    result.emplace_back(x);
  }
  return result;
}

caf::expected<std::vector<std::pair<std::string, std::string>>>
json_file::string_map(std::string_view key) const {
  std::vector<std::pair<std::string, std::string>> result;
  auto inner = object(key);
  if (!inner) {
    refuse_field(key, "is missing");
    return error();
  }
  for (auto [name, value] : inner->node_->object) {
    std::string_view x;
    if (value.get(x)) {
      inner->refuse_field(name, "is not a text");
      return error();
    }
    result.emplace_back(std::string{name}, std::string{x});
  }
  return result;
}

} // namespace troupe::models
