#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "troupe/models/tokenizer/tokenizer.hpp"

/// What the tests against Python's tokenizers share.
namespace troupe::test {

struct hard_string {
  std::string category;
  std::string text;
};

/// Those of tests/golden/tokenizer/strings.json.
inline const std::vector<hard_string>& golden_strings() {
  static const auto all = [] {
    std::vector<hard_string> out;
    std::ifstream in{std::filesystem::path{TROUPE_GOLDEN_DIR} / "tokenizer/strings.json"};
    std::stringstream text;
    text << in.rdbuf();
    auto groups = boost::json::parse(text.str());
    for (auto& group : groups.as_object())
      for (auto& string : group.value().as_array())
        out.push_back({std::string{group.key()}, boost::json::value_to<std::string>(string)});
    return out;
  }();
  return all;
}

/// FNV-1a over 32-bit words, as in make_tokenizer_goldens.py.
class hasher {
public:
  void word(uint32_t w) { h_ = (h_ ^ w) * 0x100000001b3u; }
  template <class T>
  void words(const std::vector<T>& values) {
    for (auto v : values)
      word(static_cast<uint32_t>(static_cast<int32_t>(v)));
  }
  template <class T>
  void list(const std::vector<T>& values) {
    word(static_cast<uint32_t>(values.size()));
    words(values);
  }
  void text(std::string_view s) {
    word(static_cast<uint32_t>(s.size()));
    for (unsigned char c : s)
      word(c);
  }
  void all(const encoding& e) {
    list(e.ids);
    list(e.type_ids);
    list(e.special);
    list(e.words);
    list(e.sequences);
    word(static_cast<uint32_t>(2 * e.offsets.size()));
    for (auto& [begin, end] : e.offsets) {
      word(begin);
      word(end);
    }
  }
  std::string str() const {
    std::ostringstream out;
    out << std::hex << h_;
    return out.str();
  }

private:
  uint64_t h_ = 0xcbf29ce484222325u;
};

/// The same random lists as in make_tokenizer_goldens.py.
class random_lists {
public:
  explicit random_lists(size_t limit) : limit_(limit) {}
  std::vector<int32_t> next() {
    std::vector<int32_t> ids(1 + draw(16));
    for (auto& id : ids)
      id = static_cast<int32_t>(draw(limit_));
    return ids;
  }

private:
  size_t draw(size_t n) {
    x_ = x_ * 6364136223846793005u + 1442695040888963407u;
    return (x_ >> 33) % n;
  }
  size_t limit_;
  uint64_t x_ = 1;
};

} // namespace troupe::test
