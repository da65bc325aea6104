#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/http/model_catalogue.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

catalogued_model entry(std::string name, std::string version = "", bool at_startup = false) {
  catalogued_model out;
  out.name = std::move(name);
  out.version = std::move(version);
  out.at_startup = at_startup;
  return out;
}

struct catalogue {
  model_catalogue all;

  uint64_t add(std::string name, std::string version = "", bool at_startup = false) {
    auto serial = all.add(entry(std::move(name), std::move(version), at_startup));
    REQUIRE(serial);
    return *serial;
  }
  std::string chosen(const std::string& name, const std::string& version = "") {
    auto found = all.choose(name, version);
    return found ? label_of(found->name, found->version) : "none";
  }
};

} // namespace

TEST_CASE_METHOD(catalogue, "a name and version are taken once", "[http][catalogue]") {
  add("m");
  add("m", "2");
  auto twice = all.add(entry("m"));
  REQUIRE(!twice);
  CHECK(code_of(twice.error()) == ec::name_taken);
  CHECK(all.remove("m", ""));
  CHECK(!all.remove("m", ""));
  add("m");
  CHECK(all.remove("m", std::nullopt));
  CHECK(!all.knows("m"));
}

TEST_CASE_METHOD(catalogue, "versions are alike unless one answers in another manner",
                 "[http][catalogue]") {
  auto plain = std::make_shared<const dialect_settings>();
  auto other = std::make_shared<dialect_settings>();
  other->pipeline = true;
  CHECK(!all.prepared(add("m"), "m", plain));
  add("m", "1"); // Its manner is not known yet.
  CHECK(all.alike("m"));
  CHECK(!all.prepared(add("m", "2"), "m", std::make_shared<const dialect_settings>()));
  CHECK(all.alike("m"));
  CHECK(!all.prepared(add("m", "3"), "m", other));
  CHECK(!all.alike("m"));
  CHECK(all.alike("nosuch"));
}

TEST_CASE_METHOD(catalogue, "the only start-up model is meant where none is named",
                 "[http][catalogue]") {
  CHECK(chosen("") == "none");
  add("a", "", true);
  add("later");
  CHECK(chosen("") == "a");
  add("a", "2", true); // One name still.
  CHECK(chosen("") != "none");
  add("b", "", true);
  CHECK(chosen("") == "none");
  all.remove("a", std::nullopt);
  CHECK(chosen("") == "b");
  CHECK(chosen("later") == "later");
  CHECK(chosen("nobody") == "none");
}

TEST_CASE_METHOD(catalogue, "versions take turns, those that are ready first",
                 "[http][catalogue]") {
  auto one = add("m", "1");
  auto two = add("m", "2");
  add("m", "3");
  CHECK(chosen("m", "3") == "m:3");
  all.ready(one);
  CHECK(chosen("m") == "m:1");
  CHECK(chosen("m") == "m:1");
  all.ready(two);
  auto first = chosen("m"), second = chosen("m");
  CHECK(first != second);
  CHECK(chosen("m") == first);
}

TEST_CASE_METHOD(catalogue, "a model that leaves while it is prepared is told so",
                 "[http][catalogue]") {
  auto leaving = entry("m");
  auto token = leaving.stop.get_token();
  auto serial = all.add(std::move(leaving));
  REQUIRE(serial);
  CHECK(!token.stop_requested());
  CHECK(all.remove("m", std::nullopt));
  CHECK(token.stop_requested());
  auto again = add("m");
  CHECK(code_of(all.prepared(*serial, "m", nullptr)) == ec::cancelled);
  CHECK(code_of(all.ready(*serial)) == ec::cancelled);
  all.failed(*serial, "late"); // Not the later one's business.
  CHECK(!all.prepared(again, "m", nullptr));
  CHECK(all.choose("m", "")->state == catalogued_model::phase::loading);
}

TEST_CASE_METHOD(catalogue, "a name found out late must be free", "[http][catalogue]") {
  add("m");
  auto other = add("folder");
  CHECK(code_of(all.prepared(other, "m", nullptr)) == ec::name_taken);
  CHECK(!all.prepared(other, "better", nullptr));
  CHECK(all.knows("better"));
  CHECK(!all.knows("folder"));
}

TEST_CASE_METHOD(catalogue, "what the engine has not heard of is listed beside what it has",
                 "[http][catalogue]") {
  add("b");
  auto broken = add("a", "1");
  all.failed(broken, "no such folder");
  model_status known;
  known.name = "b";
  known.state = model_state::ready;
  auto listed = all.complete({known});
  REQUIRE(listed.size() == 2);
  CHECK(listed[0].name == "a");
  CHECK(listed[0].registered.version == "1");
  CHECK(listed[0].state == model_state::failed);
  CHECK(listed[0].problem == "no such folder");
  CHECK(listed[1].state == model_state::ready);
}
