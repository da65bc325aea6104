#include "troupe/examples/load_test/report/live_view.hpp"

#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <thread>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/report/escape.hpp"

#include "runs.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

live_snapshot some_moment() {
  live_snapshot s;
  s.elapsed_s = 27;
  s.duration_s = 60;
  s.active = 32;
  s.completed = 1234;
  s.failed = 2;
  s.recent_s = 5;
  s.requests_per_s = 20.5;
  s.output_tokens_per_s = 2048;
  s.ttft = {100, 41, 230};
  s.phase = "measuring \x1b[2J";
  return s;
}

bool has(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

/// A terminal of a given size whose screen is what was written.
class terminal {
public:
  explicit terminal(unsigned short width) {
    winsize size{24, width, 0, 0};
    int writer = -1;
    REQUIRE(openpty(&reader_, &writer, nullptr, nullptr, &size) == 0);
    out = fdopen(writer, "w");
  }
  ~terminal() {
    fclose(out);
    close(reader_);
  }
  void resize(unsigned short width) {
    winsize size{24, width, 0, 0};
    REQUIRE(ioctl(fileno(out), TIOCSWINSZ, &size) == 0);
  }
  std::string written() {
    char text[16384];
    auto n = read(reader_, text, sizeof text);
    return {text, n > 0 ? static_cast<size_t>(n) : 0};
  }
  std::FILE* out = nullptr;

private:
  int reader_ = -1;
};

std::string to_pipe(const std::function<void(std::FILE*)>& f) {
  auto* file = std::tmpfile();
  REQUIRE(file);
  f(file);
  std::rewind(file);
  std::string text(65536, '\0');
  text.resize(fread(text.data(), 1, text.size(), file));
  fclose(file);
  return text;
}

} // namespace

TEST_CASE("the view tells progress, rates and recent latencies", "[load_test][live]") {
  auto lines = live_lines(some_moment(), {true, false, 100});
  REQUIRE(lines.size() == 3);
  CHECK(has(lines[0], "45 %  0:27 of 1:00  measuring \\x1b[2J"));
  CHECK(has(lines[1], "32 active   1,234 done   2 failed   20.5 requests/s   2,048 tokens/s"));
  CHECK(has(lines[2], "last 5 s  ttft p50 41 ms p99 230 ms   itl -"));
  CHECK(has(live_lines(some_moment(), {true, true, 100})[1], "\x1b[1;31m2 failed\x1b[0m"));
}

TEST_CASE("the view fits every width", "[load_test][live]") {
  for (size_t width : {20U, 40U, 80U, 200U})
    for (auto& line : live_lines(some_moment(), {true, true, width}))
      CHECK(columns(line) < width);
}

TEST_CASE("a test by requests shows its progress by requests", "[load_test][live]") {
  auto s = some_moment();
  s.duration_s = 0;
  s.requests = 1648;
  auto lines = live_lines(s, {true, false, 100});
  CHECK(has(lines[0], " 75 %  0:27  "));
  CHECK(has(lines[1], "1,234 of 1,648 done"));
}

TEST_CASE("a terminal is redrawn in place, also after it was resized", "[load_test][live]") {
  setenv("TERM", "xterm", 1);
  terminal t{100};
  live_view view{t.out};
  view.show(some_moment());
  auto first = t.written();
  CHECK(!has(first, "\x1b[2A"));
  view.show(some_moment());
  CHECK(has(t.written(), "\r\x1b[2A"));
  // All three lines are wider than 40 columns and so on two rows now.
  t.resize(40);
  view.show(some_moment());
  CHECK(has(t.written(), "\r\x1b[5A"));
  view.note("connection to \x1b[31m lost");
  auto noted = t.written();
  CHECK(has(noted, "\r\x1b[2A\x1b[J"));
  CHECK(has(noted, "\\x1b[31m lost"));
}

TEST_CASE("NO_COLOR takes the colour and nothing else", "[load_test][live]") {
  setenv("TERM", "xterm", 1);
  terminal t{100};
  CHECK(style_of(t.out).color);
  setenv("NO_COLOR", "1", 1);
  CHECK(!style_of(t.out).color);
  CHECK(style_of(t.out).terminal);
  setenv("NO_COLOR", "", 1);
  CHECK(style_of(t.out).color);
  unsetenv("NO_COLOR");
  CHECK(style_of(t.out).width == 100);
  setenv("TERM", "dumb", 1);
  CHECK(!style_of(t.out).terminal);
  setenv("TERM", "xterm", 1);
}

TEST_CASE("off a terminal a plain line comes every few seconds", "[load_test][live]") {
  auto text = to_pipe([](std::FILE* f) {
    live_view view{f};
    auto s = some_moment();
    for (s.elapsed_s = 0; s.elapsed_s < 21; s.elapsed_s += 0.25)
      view.show(s);
    for (s.elapsed_s = 0; s.elapsed_s < 6; s.elapsed_s += 0.25) // the next run of a sweep
      view.show(s);
  });
  CHECK(std::count(text.begin(), text.end(), '\n') == 5);
  CHECK(!has(text, "\x1b"));
  CHECK(has(text, "0:10 of 1:00"));
  CHECK(to_pipe([](std::FILE* f) {
          live_view view{f, true};
          auto s = some_moment();
          s.elapsed_s = 100;
          view.show(s);
          view.note("x");
        }).empty());
}

TEST_CASE("the window tells the last seconds from all", "[load_test][live]") {
  live_counters a, b;
  live_window window{{&a, &b}, 5};
  for (int second = 1; second <= 20; ++second) {
    auto slow = second > 12;
    for (int i = 0; i < 10; ++i) {
      auto& worker = i % 2 ? a : b;
      worker.started.add();
      worker.ttft.record(slow ? 100_ms : 10_ms);
      worker.output_tokens.add(8);
      worker.ended(i == 0 ? outcome::refused : outcome::ok);
    }
    a.started.add(second == 20 ? 3 : 0);
    auto s = window.take(second);
    if (second == 10) {
      CHECK(s.ttft.p50_ms == Approx(10).epsilon(0.035));
      CHECK(s.recent_s == Approx(5));
    }
    if (second == 20) {
      CHECK(s.completed == 180);
      CHECK(s.failed == 20);
      CHECK(s.active == 3);
      CHECK(s.output_tokens == 1600);
      CHECK(s.requests_per_s == Approx(9));
      CHECK(s.output_tokens_per_s == Approx(80));
      CHECK(s.ttft.count == 50);
      CHECK(s.ttft.p50_ms == Approx(100).epsilon(0.035));
      CHECK(s.itl.count == 0);
    }
  }
}

TEST_CASE("a viewer reads while a worker records", "[load_test][live]") {
  live_counters worker;
  std::atomic<bool> stop{false};
  uint64_t recorded = 0;
  // Before the writer: what it finds counts as past.
  live_window window{{&worker}, 1000};
  std::thread writer{[&] {
    while (!stop) {
      worker.itl.record(1_ms);
      worker.output_tokens.add();
      ++recorded;
    }
  }};
  uint64_t last = 0;
  for (int i = 1; i <= 200; ++i) {
    auto s = window.take(i);
    CHECK(s.itl.count >= last);
    last = s.itl.count;
  }
  stop = true;
  writer.join();
  auto s = window.take(1000);
  CHECK(s.itl.count == recorded);
  CHECK(s.output_tokens == recorded);
}
