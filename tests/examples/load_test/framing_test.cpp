#include <algorithm>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/dialects/framing.hpp"
#include "troupe/examples/load_test/random.hpp"

#include "padded.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::test;

namespace {

struct collector final : frame_receiver {
  void frame(json_view data) override {
    // The padding must be readable.
    volatile char sink = data.text.data()[data.text.size() + json_padding - 1];
    (void)sink;
    frames.emplace_back(data.text);
  }
  std::vector<std::string> frames;
};

std::vector<std::string> frames_of(framer::form form, std::string_view text, size_t first,
                                   size_t then) {
  framer f;
  f.reset(form);
  collector to;
  auto take = [&](std::string_view piece) { REQUIRE(f.take(piece, to)); };
  in_pieces(text.substr(0, first), std::max<size_t>(first, 1), take);
  in_pieces(text.substr(std::min(first, text.size())), then, take);
  f.finish(to);
  return to.frames;
}

/// The same frames, wherever the text is cut in two, and byte by byte.
void check(framer::form form, std::string_view text, const std::vector<std::string>& expected) {
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    INFO("cut at " << cut);
    REQUIRE(frames_of(form, text, cut, text.size()) == expected);
  }
  CHECK(frames_of(form, text, 0, 1) == expected);
  CHECK(frames_of(form, text, 0, 3) == expected);
}

} // namespace

TEST_CASE("events are cut out wherever the pieces end", "[examples][load]") {
  using enum framer::form;
  check(sse, "data: one\n\ndata:two\n\n", {"one", "two"});
  check(sse, "data: a\r\n\r\ndata: b\r\n\r\n", {"a", "b"});
  check(sse, "data: first line\ndata: second\n\n", {"first line\nsecond"});
  check(sse, ": a comment\nid: 7\nretry: 10\ndata: x\n\n", {"x"});
  check(sse, "data:  two spaces\n\n", {" two spaces"});
  check(sse, "data\n\n\n\ndata: y\n\n", {"y"});
  check(sse, "data: \n\n", {""});
  check(sse, "data: complete\n\ndata: not complete\n", {"complete"});
  check(sse, "data: complete\n\ndata: not comp", {"complete"});
}

TEST_CASE("lines are cut out wherever the pieces end", "[examples][load]") {
  using enum framer::form;
  check(lines, "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}", {"{\"a\":1}", "{\"b\":2}", "{\"c\":3}"});
  check(lines, "", {});
  check(whole, "{\n\"a\": 1\n}\n", {"{\n\"a\": 1\n}\n"});
}

TEST_CASE("an error event is told by its name", "[examples][load]") {
  framer f;
  f.reset(framer::form::sse);
  struct : frame_receiver {
    void frame(json_view) override { seen.push_back(from->error_event()); }
    framer* from = nullptr;
    std::vector<bool> seen;
  } to;
  to.from = &f;
  in_pieces("event: error\ndata: x\n\ndata: y\n\nevent:message\ndata: z\n\n", 4,
            [&](std::string_view piece) { f.take(piece, to); });
  CHECK(to.seen == std::vector<bool>{true, false, false});
}

TEST_CASE("what never ends is refused instead of kept", "[examples][load]") {
  collector to;
  std::string block(size_t{1} << 20, 'x');
  for (auto form : {framer::form::sse, framer::form::lines, framer::form::whole}) {
    framer f;
    f.reset(form);
    auto limit = form == framer::form::whole ? framer::longest_whole : framer::longest_frame;
    size_t taken = 0;
    auto fits = true;
    while (fits && taken < 2 * limit) {
      in_pieces(block, block.size(), [&](std::string_view piece) { fits = f.take(piece, to); });
      taken += block.size();
    }
    CHECK_FALSE(fits);
    CHECK(taken <= limit + block.size());
  }
  // An event of many short lines as well.
  framer f;
  f.reset(framer::form::sse);
  auto line = "data: " + std::string(1000, 'y') + "\n";
  auto fits = true;
  for (size_t i = 0; fits && i < 10'000; ++i)
    in_pieces(line, line.size(), [&](std::string_view piece) { fits = f.take(piece, to); });
  CHECK_FALSE(fits);
}

TEST_CASE("random bytes neither crash a framer nor depend on how they are cut",
          "[examples][load]") {
  random_source random{5};
  constexpr std::string_view likely = "data: \n\r:event";
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (int i = 0; i < 200; ++i)
      text += random.below(3) > 0 ? likely[random.below(likely.size())]
                                  : static_cast<char>(random.below(256));
    for (auto form : {framer::form::sse, framer::form::lines}) {
      auto whole = frames_of(form, text, text.size(), 1);
      REQUIRE(frames_of(form, text, 0, 1) == whole);
      REQUIRE(frames_of(form, text, random.below(200), 7) == whole);
    }
  }
}
