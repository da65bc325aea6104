#include <stdexcept>

#include <caf/sec.hpp>
#include <catch2/catch.hpp>

#include "troupe/config/guarded.hpp"

using namespace troupe;

TEST_CASE("an error keeps its code and its sentence", "[config][error]") {
  caf::error err = caf::make_error(ec::queue_full, std::string{"the queue is full: try again"});
  CHECK(code_of(err) == ec::queue_full);
  CHECK(text_of(err) == "the queue is full: try again");
  CHECK(err == caf::make_error(ec::queue_full));
  CHECK(err != caf::make_error(ec::internal));
  CHECK(text_of(caf::make_error(ec::queue_full)) == "queue_full");
}

TEST_CASE("foreign errors count as internal and still have a text", "[config][error]") {
  caf::error err = caf::make_error(caf::sec::request_timeout);
  CHECK(code_of(err) == ec::internal);
  CHECK(!text_of(err).empty());
  CHECK(code_of(caf::error{}) == ec::none);
  CHECK(text_of(caf::error{}).empty());
}

TEST_CASE("every code has a name of its own", "[config][error]") {
  for (int i = 0; i <= static_cast<int>(ec::internal); ++i)
    for (int j = 0; j < i; ++j)
      CHECK(to_string(static_cast<ec>(i)) != to_string(static_cast<ec>(j)));
  CHECK(to_string(static_cast<ec>(200)) == "unknown");
}

TEST_CASE("guarded turns an exception into an error", "[config][error]") {
  auto thrown = guarded(ec::row_fault, []() -> int { throw std::runtime_error{"no luck"}; });
  REQUIRE(!thrown);
  CHECK(code_of(thrown.error()) == ec::row_fault);
  CHECK(text_of(thrown.error()) == "no luck");
  auto fine = guarded(ec::row_fault, [] { return 7; });
  REQUIRE(fine);
  CHECK(*fine == 7);
  auto nested = guarded(ec::row_fault, []() -> caf::expected<int> {
    return caf::make_error(ec::internal, std::string{"inner"});
  });
  static_assert(std::is_same_v<decltype(nested), caf::expected<int>>);
  REQUIRE(!nested);
  CHECK(code_of(nested.error()) == ec::internal);
  CHECK(guarded(ec::row_fault, [] {}));
}
