#include <catch2/catch.hpp>

#include <random>

#include "troupe/actors/stop_matcher.hpp"

using namespace troupe;

namespace {

/// What the contract says, word by word: earliest end, then earliest start.
std::optional<stop_matcher::match> search(const std::string& text,
                                          const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end)
    for (size_t begin = 0; begin < end; ++begin)
      for (const auto& stop : stops)
        if (stop.size() == end - begin && text.compare(begin, stop.size(), stop) == 0)
          return stop_matcher::match{begin, end};
  return std::nullopt;
}

/// The longest end of `text` that is a proper beginning of a stop string.
size_t undecided(const std::string& text, const std::vector<std::string>& stops) {
  size_t best = 0;
  for (const auto& stop : stops)
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n)
      if (text.compare(text.size() - n, n, stop, 0, n) == 0)
        best = std::max(best, n);
  return best;
}

std::string random_text(std::mt19937& random, size_t longest, int letters) {
  std::string text(random() % (longest + 1), 'a');
  for (auto& c : text)
    c = static_cast<char>('a' + random() % letters);
  return text;
}

} // namespace

TEST_CASE("a stop string is found across pieces", "[actors][stop_matcher]") {
  stop_matcher matcher{{"\n\nUser:"}};
  stop_matcher::cursor at;
  CHECK(!matcher.advance(at, "Hello\n"));
  CHECK(matcher.held(at) == 1);
  CHECK(!matcher.advance(at, "\nUs"));
  CHECK(matcher.held(at) == 4);
  CHECK(matcher.advance(at, "er: hi") == stop_matcher::match{5, 12});
}

TEST_CASE("of two stop strings that end together the longer one wins", "[actors][stop_matcher]") {
  stop_matcher matcher{{"b", "ab", "xab"}};
  stop_matcher::cursor at;
  CHECK(matcher.advance(at, "xxab") == stop_matcher::match{1, 4});
}

TEST_CASE("the match that ends first wins over the one that began first",
          "[actors][stop_matcher]") {
  stop_matcher matcher{{"abcd", "bc"}};
  stop_matcher::cursor at;
  CHECK(matcher.advance(at, "abcd") == stop_matcher::match{1, 3});
}

TEST_CASE("without stop strings nothing is found and nothing is held", "[actors][stop_matcher]") {
  stop_matcher matcher{{"", ""}};
  stop_matcher::cursor at;
  CHECK(matcher.empty());
  CHECK(!matcher.advance(at, "anything"));
  CHECK(matcher.held(at) == 0);
}

TEST_CASE("the matcher agrees with a search by brute force", "[actors][stop_matcher]") {
  std::mt19937 random{20261122};
  size_t found = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::string> stops(1 + random() % 5);
    for (auto& stop : stops)
      stop = random_text(random, 5, 2);
    auto text = random_text(random, 24, 2 + round % 2);
    stop_matcher matcher{stops};
    stop_matcher::cursor at;
    std::optional<stop_matcher::match> got;
    size_t read = 0;
    while (!got && read < text.size()) {
      auto n = std::min<size_t>(1 + random() % 4, text.size() - read);
      got = matcher.advance(at, std::string_view{text}.substr(read, n));
      read += n;
      if (!got)
        REQUIRE(matcher.held(at) == undecided(text.substr(0, read), stops));
    }
    INFO(text);
    REQUIRE(got == search(text, stops));
    found += got.has_value();
  }
  CHECK(found > 1000);
}
