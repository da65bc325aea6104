#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <sstream>

#include "events.hpp"
#include "troupe/http/route_table.hpp"
#include "troupe/http/router.hpp"

using namespace troupe;
using namespace troupe::http;

TEST_CASE("paths find their routes", "[http][routes]") {
  auto path_of = [](std::string_view path) {
    auto* found = find_route(path);
    return found ? found->path : std::string_view{};
  };
  CHECK(path_of("/") == "/");
  CHECK(path_of("/ping") == "/ping");
  CHECK(path_of("/predictions/m") == "/predictions/{model}");
  CHECK(path_of("/predictions/m/1") == "/predictions/{model}/{version}");
  CHECK(path_of("/models/m/invoke") == "/models/{model}/invoke");
  CHECK(path_of("/v1/models") == "/v1/models");
  CHECK(path_of("/v1/models/org/name") == "/v1/models/{model}*");
  CHECK(path_of("/invocations/") == "/invocations");
  for (auto none :
       {"/predictions", "/predictions//1", "/models//invoke", "/ping/x", "/v1", "//ping"})
    CHECK(path_of(none) == "");
}

TEST_CASE("every route is described", "[http][routes]") {
  auto document = test::parsed(openapi_document("1.2.3"));
  CHECK(*document.find("openapi")->as_string() == "3.1.0");
  CHECK(*document.find("info")->find("version")->as_string() == "1.2.3");
  const auto& paths = *document.find("paths");
  const auto& schemas = *document.find("components")->find("schemas");
  std::set<std::string_view> seen;
  for (const auto& route : route_table()) {
    CAPTURE(route.path);
    CHECK(seen.insert(route.path).second);
    CHECK(route.summary.size() > 10);
    CHECK_FALSE(route.summary.ends_with('.'));
    CHECK(!route.tag.empty());
    REQUIRE(!route.methods.empty());
    auto named_schemas = std::string{route.request} + ' ' + std::string{route.answer};
    std::replace(named_schemas.begin(), named_schemas.end(), '|', ' ');
    std::istringstream words{named_schemas};
    for (std::string schema; words >> schema;)
      if (schema.find('/') == std::string::npos)
        CHECK(schemas.find(schema));
    auto path =
        route.path.ends_with('*') ? route.path.substr(0, route.path.size() - 1) : route.path;
    auto* item = paths.find(path);
    REQUIRE(item);
    auto method = lower(route.methods.substr(0, route.methods.find(' ')));
    REQUIRE(item->find(method));
    CHECK(*item->find(method)->find("summary")->as_string() == route.summary);
    CHECK(item->find(method)->find("responses")->find("2XX"));
    CHECK(item->find(method)->find("responses")->as_object()->size() > 3);
    auto named = static_cast<size_t>(std::count(path.begin(), path.end(), '{'));
    if (!route.query.empty())
      named += static_cast<size_t>(std::count(route.query.begin(), route.query.end(), ' ')) + 1;
    CHECK(item->find(method)->find("parameters")->as_array()->size() == named);
  }
}

TEST_CASE("what is described is answered", "[http][routes]") {
  front_state state;
  for (const auto& route : route_table()) {
    CAPTURE(route.path);
    request r;
    r.method = route.methods.substr(0, route.methods.find(' '));
    for (auto c : route.path)
      r.path += c == '{' || c == '}' || c == '*' ? 'x' : c;
    r.body = "{}";
    admit(state.settings, r);
    auto out = http::route(state, r);
    if (auto* answer = std::get_if<reply>(&out))
      CHECK(answer->body.find("Requested resource is not found") == std::string::npos);
  }
}
