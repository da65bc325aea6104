#include "troupe/models/loading/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <simdjson.h>

#include "troupe/models/loading/complaint.hpp"

namespace troupe::models {

namespace {

constexpr uint64_t max_header_bytes = 100'000'000;

struct type_entry {
  std::string_view name;
  uint8_t bytes;
};

// In the order of the enum.
constexpr std::array<type_entry, 16> types = {{{"BOOL", 1},
                                               {"U8", 1},
                                               {"I8", 1},
                                               {"F8_E5M2", 1},
                                               {"F8_E4M3", 1},
                                               {"F8_E8M0", 1},
                                               {"I16", 2},
                                               {"U16", 2},
                                               {"F16", 2},
                                               {"BF16", 2},
                                               {"I32", 4},
                                               {"U32", 4},
                                               {"F32", 4},
                                               {"F64", 8},
                                               {"I64", 8},
                                               {"U64", 8}}};
static_assert(types.size() == static_cast<size_t>(tensor_type::u64) + 1);

/// Where a tensor lies, relative to the end of the header.
struct extent {
  uint64_t begin;
  uint64_t end;
  std::string_view name;
};

caf::error read_entry(const complaint& complain, std::string_view name,
                      simdjson::dom::element value, uint64_t data_bytes, stored_tensor& out,
                      extent& where) {
  simdjson::dom::object entry;
  if (value.get(entry))
    return complain(name, "is described by something else than a JSON object");
  bool has_type = false, has_shape = false, has_offsets = false;
  uint64_t elements = 1;
  for (auto [key, field] : entry) {
    if (key == "dtype") {
      std::string_view text;
      auto found = types.end();
      if (!field.get(text))
        found = std::find_if(types.begin(), types.end(), [&](auto& t) { return t.name == text; });
      if (found == types.end())
        return complain(name, "has an unknown dtype");
      out.type = static_cast<tensor_type>(found - types.begin());
      has_type = true;
    } else if (key == "shape") {
      simdjson::dom::array sizes;
      if (has_shape || field.get(sizes))
        return complain(name, "has a shape that is no list of sizes");
      for (auto item : sizes) {
        uint64_t size = 0;
        if (item.get(size))
          return complain(name, "has a shape with something else than sizes in it");
        if (__builtin_mul_overflow(elements, size, &elements))
          return complain(name, "has more elements than 64 bits can count");
        out.shape.push_back(size);
      }
      has_shape = true;
    } else if (key == "data_offsets") {
      simdjson::dom::array pair;
      if (field.get(pair) || pair.size() != 2 || pair.at(0).get(where.begin) ||
          pair.at(1).get(where.end))
        return complain(name, "has data_offsets that are no pair of positions");
      has_offsets = true;
    } else {
      return complain(name, "has an unknown field '" + std::string{key} + "'");
    }
  }
  if (!has_type || !has_shape || !has_offsets)
    return complain(name, "lacks dtype, shape or data_offsets");
  if (where.end < where.begin)
    return complain(name, "ends before it begins");
  if (where.end > data_bytes)
    return complain(name, "ends at byte " + std::to_string(where.end) +
                              " of the data, but the file holds only " +
                              std::to_string(data_bytes) +
                              ": the file is truncated, fetch it again");
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements, static_cast<uint64_t>(size_of(out.type)), &bytes) ||
      bytes != where.end - where.begin)
    return complain(name, "takes " + std::to_string(where.end - where.begin) + " bytes, but " +
                              describe(out) + " needs another number");
  out.bytes = static_cast<size_t>(bytes);
  where.name = name;
  return {};
}

/// The format asks that data has neither holes nor overlaps.
caf::error check_extents(const complaint& complain, std::vector<extent>& extents,
                         uint64_t data_bytes) {
  std::sort(extents.begin(), extents.end(), [](const extent& a, const extent& b) {
    return std::pair{a.begin, a.end} < std::pair{b.begin, b.end};
  });
  uint64_t next = 0;
  std::string_view before;
  for (const auto& e : extents) {
    if (e.begin < next)
      return complain(e.name, "overlaps with tensor '" + std::string{before} + "'");
    if (e.begin > next)
      return complain(e.name, "begins at byte " + std::to_string(e.begin) +
                                  " of the data, after a hole of " +
                                  std::to_string(e.begin - next) + " bytes");
    next = e.end;
    before = e.name;
  }
  if (next != data_bytes)
    return complain("holds " + std::to_string(data_bytes - next) +
                    " bytes that belong to no tensor");
  return {};
}

} // namespace

std::string_view to_string_view(tensor_type t) {
  return types[static_cast<size_t>(t)].name;
}

size_t size_of(tensor_type t) {
  return types[static_cast<size_t>(t)].bytes;
}

std::string describe(const stored_tensor& t) {
  std::string text = "[";
  for (size_t i = 0; i < t.shape.size(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(t.shape[i]);
  return text + "] " + std::string{to_string_view(t.type)};
}

caf::expected<tensor_map> read_safetensors(const std::string& path) {
  auto opened = mapped_file::open(path);
  if (!opened)
    return opened.error();
  const auto file = *opened;
  const complaint complain{path};
  uint64_t header_bytes = 0;
  if (file->size() < sizeof(header_bytes))
    return complain("is shorter than a safetensors header");
  std::memcpy(&header_bytes, file->data(), sizeof(header_bytes));
  if (header_bytes > max_header_bytes)
    return complain("claims a header of " + std::to_string(header_bytes) +
                    " bytes: this is no safetensors file");
  if (header_bytes > file->size() - sizeof(header_bytes))
    return complain("ends inside its header: the file is truncated, fetch it again");
  // DOM and not On-Demand: it validates all of the document, also what nobody looks at.
  simdjson::dom::parser parser;
  simdjson::dom::object header;
  const auto* text = reinterpret_cast<const char*>(file->data()) + sizeof(header_bytes);
  if (parser.parse(text, header_bytes).get(header))
    return complain("has a header that is no JSON object");
  const uint64_t data_begin = sizeof(header_bytes) + header_bytes;
  const uint64_t data_bytes = file->size() - data_begin;
  tensor_map tensors;
  std::vector<extent> extents;
  for (auto [name, value] : header) {
    if (name == "__metadata__") {
      if (!value.is_object())
        return complain("has metadata that is no JSON object");
      continue;
    }
    stored_tensor t;
    extent where{};
    if (auto err = read_entry(complain, name, value, data_bytes, t, where))
      return err;
    t.file = file;
    t.offset = data_begin + where.begin;
    auto [place, fresh] = tensors.emplace(std::string{name}, std::move(t));
    if (!fresh)
      return complain(name, "is described twice");
    where.name = place->first;
    extents.push_back(where);
  }
  if (auto err = check_extents(complain, extents, data_bytes))
    return err;
  if (!file->intact())
    return complain("was truncated while it was read");
  return tensors;
}

} // namespace troupe::models
