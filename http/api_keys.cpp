#include "troupe/http/api_keys.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "troupe/config/error.hpp"

namespace troupe::http {

namespace {

caf::error bad(std::string text) {
  return caf::make_error(ec::bad_option, std::move(text));
}

std::string_view next_word(std::string_view& text) {
  auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos)
    return text = {};
  text.remove_prefix(first);
  auto word = text.substr(0, text.find_first_of(" \t\r"));
  text.remove_prefix(word.size());
  return word;
}

std::optional<key_rate> parse_rate(std::string_view text) {
  key_rate out;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.requests);
  if (error != std::errc{} || !std::isfinite(out.requests) || out.requests <= 0)
    return std::nullopt;
  std::string_view unit{end, static_cast<size_t>(text.data() + text.size() - end)};
  if (unit == "/s")
    out.seconds = 1;
  else if (unit == "/m")
    out.seconds = 60;
  else if (unit == "/h")
    out.seconds = 3600;
  else
    return std::nullopt;
  return out;
}

} // namespace

caf::expected<api_key> parse_api_key(std::string_view line) {
  api_key out;
  out.secret = next_word(line);
  if (out.secret.empty())
    return bad("an API key is empty");
  for (auto word = next_word(line); !word.empty(); word = next_word(line)) {
    auto equals = word.find('=');
    auto name = word.substr(0, equals);
    auto value = equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
    if (name == "name" && !value.empty()) {
      out.name = value;
    } else if (name == "rate") {
      out.rate = parse_rate(value);
      if (!out.rate)
        return bad("rate=" + std::string{value} +
                   " is not allowed: a number above 0 and /s, /m or /h, such as rate=10/s");
    } else {
      // The word itself may be half of a secret, so it is not shown.
      return bad("after a key only name=NAME and rate=N/s, N/m or N/h may follow");
    }
  }
  return out;
}

caf::expected<std::vector<api_key>> read_api_keys(const std::string& file) {
  std::ifstream in{file};
  if (!in)
    return bad("api_keys_file " + file + " cannot be read");
  std::vector<api_key> out;
  std::string line;
  for (size_t number = 1; std::getline(in, line); ++number) {
    auto first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#')
      continue;
    auto where = "api_keys_file " + file + ":" + std::to_string(number) + ": ";
    auto key = parse_api_key(line);
    if (!key)
      return bad(where + text_of(key.error()));
    auto same = std::any_of(out.begin(), out.end(),
                            [&](const api_key& x) { return x.secret == key->secret; });
    if (same)
      return bad(where + "this key stands above already");
    out.push_back(std::move(*key));
  }
  if (out.empty())
    return bad("api_keys_file " + file + " holds no key: write one on each line");
  return out;
}

key_ring::digest key_ring::digest_of(std::string_view secret) {
  digest out{};
  unsigned int size = 0;
  EVP_Digest(secret.data(), secret.size(), out.data(), &size, EVP_sha256(), nullptr);
  return out;
}

key_ring::key_ring(const std::vector<api_key>& keys) {
  for (const auto& key : keys) {
    entry added;
    added.hash = digest_of(key.secret);
    added.name = key.name.empty() ? "key " + std::to_string(entries_.size() + 1) : key.name;
    added.rate = key.rate;
    added.allowance = key.rate ? std::max(1.0, key.rate->requests) : 0;
    entries_.push_back(std::move(added));
  }
}

std::optional<size_t> key_ring::find(std::string_view presented) const {
  auto hash = digest_of(presented);
  std::optional<size_t> found;
  // All of them are compared, so that the time tells nothing.
  for (size_t i = 0; i < entries_.size(); ++i)
    if (CRYPTO_memcmp(hash.data(), entries_[i].hash.data(), hash.size()) == 0)
      found = i;
  return found;
}

std::chrono::milliseconds key_ring::spend(size_t key, clock::time_point now) {
  auto& one = entries_[key];
  if (!one.rate)
    return std::chrono::milliseconds{0};
  std::lock_guard lock{mutex_};
  auto speed = one.rate->requests / one.rate->seconds;
  auto most = std::max(1.0, one.rate->requests);
  if (one.counted != clock::time_point{})
    one.allowance = std::min(
        most, one.allowance + speed * std::chrono::duration<double>(now - one.counted).count());
  one.counted = now;
  if (one.allowance >= 1) {
    one.allowance -= 1;
    return std::chrono::milliseconds{0};
  }
  return std::chrono::milliseconds{
      static_cast<int64_t>(std::ceil((1 - one.allowance) / speed * 1000))};
}

uint64_t key_ring::next_turn(size_t key) {
  std::lock_guard lock{mutex_};
  auto start = std::max(now_, entries_[key].finish);
  entries_[key].finish = start + 1;
  return start;
}

void key_ring::began(uint64_t turn) {
  std::lock_guard lock{mutex_};
  now_ = std::max(now_, turn);
}

} // namespace troupe::http
