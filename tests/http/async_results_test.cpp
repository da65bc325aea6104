#include <catch2/catch.hpp>

#include "troupe/http/async_results.hpp"

using namespace troupe::http;

namespace {

constexpr auto lines = "application/jsonlines";

std::string next_of(const reply& r) {
  for (const auto& [name, value] : r.headers)
    if (name == "x-next-token")
      return value;
  return {};
}

struct results {
  async_results all{2, 1};
  std::string id = std::string(36, 'a');
  int cancelled = 0;
  std::shared_ptr<async_result> one = add(id);

  std::shared_ptr<async_result> add(const std::string& name, std::string type = lines) {
    return all.add(name, std::move(type), std::nullopt, [this] { ++cancelled; });
  }
};

} // namespace

TEST_CASE_METHOD(results, "a result is fetched item by item", "[http][async]") {
  auto early = all.poll(id, "");
  CHECK(early.status == 202);
  CHECK(early.reason == "The model result is not yet available");
  CHECK(next_of(early) == id);
  one->append("{1}\n{2}\n");
  one->append("{3}\n");
  auto some = all.poll(id, "2");
  CHECK(some.status == 200);
  CHECK(some.content_type == lines);
  CHECK(some.body == "{1}\n{2}\n");
  CHECK(next_of(some) == id + "2");
  auto rest = all.poll(next_of(some), "");
  CHECK(rest.body == "{3}\n");
  CHECK(next_of(rest) == id + "3");
  CHECK(all.poll(id + "3", "").status == 202);
  one->append("{4}\n");
  one->finish();
  auto last = all.poll(id + "3", "");
  CHECK(last.body == "{4}\n");
  CHECK(next_of(last).empty());
  // Whoever asks again gets the same again.
  CHECK(all.poll(id, "").body == "{1}\n{2}\n{3}\n{4}\n");
}

TEST_CASE_METHOD(results, "a plain answer is one item", "[http][async]") {
  auto plain = add("plain", "application/json");
  plain->append("{\n}\n\n");
  plain->finish();
  auto got = plain->poll("plain", 0, 1);
  CHECK(got.body == "{\n}\n\n");
  CHECK(next_of(got).empty());
}

TEST_CASE_METHOD(results, "events are items", "[http][async]") {
  auto events = add("events", "text/event-stream");
  events->append("data: 1\n\ndata: 2\n\n");
  CHECK(events->poll("events", 1, 1).body == "data: 2\n\n");
}

TEST_CASE_METHOD(results, "a failure comes after what was there", "[http][async]") {
  one->append("{1}\n");
  one->fail("the device\nis lost");
  auto some = all.poll(id, "");
  CHECK(some.body == "{1}\n");
  auto end = all.poll(next_of(some), "");
  CHECK(end.status == 500);
  CHECK(end.reason == "the device is lost");
  CHECK(end.body.find("is lost") != std::string::npos);
}

TEST_CASE_METHOD(results, "what nobody gave out is no token", "[http][async]") {
  for (auto bad :
       {std::string{"b"}, std::string(36, 'b'), id + "x", id + "1", id + "-1", std::string{}}) {
    auto got = all.poll(bad, "");
    CHECK(got.status == 400);
    CHECK(got.body.find("Invalid x-starting-token: ") != std::string::npos);
  }
  CHECK(all.poll(id, "0").status == 400);
  CHECK(all.poll(id, "many").status == 400);
}

TEST_CASE_METHOD(results, "the one that was not asked for longest is given up", "[http][async]") {
  add(std::string(36, 'b'));
  all.poll(id, "");
  add(std::string(36, 'c'));
  CHECK(cancelled == 1);
  CHECK(all.poll(std::string(36, 'b'), "").status == 400);
  CHECK(all.poll(id, "").status == 202);
}

TEST_CASE_METHOD(results, "a result belongs to the key that asked for it", "[http][async]") {
  auto mine = std::string(36, 'k');
  all.add(mine, lines, 7, [] {});
  CHECK(all.poll(mine, "", 7).status == 202);
  CHECK(all.poll(mine, "", 8).status == 400);
  CHECK(all.poll(mine, "").status == 400);
}

TEST_CASE("items can become visible in batches", "[http][async]") {
  async_result one{lines, 3};
  one.append("1\n2\n");
  CHECK(one.poll("x", 0, 0).status == 202);
  one.append("3\n4\n");
  CHECK(one.poll("x", 0, 0).body == "1\n2\n3\n");
  one.finish();
  CHECK(one.poll("x", 3, 0).body == "4\n");
}
