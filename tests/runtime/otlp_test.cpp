#include <catch2/catch.hpp>

#include <boost/json.hpp>

#include "troupe/config/error.hpp"
#include "troupe/runtime/otlp.hpp"

using namespace troupe;
using namespace troupe::telemetry;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

constexpr auto parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

request_trace finished() {
  request_trace out;
  out.request = "r1";
  out.model = "tiny";
  out.operation = "chat";
  out.arrived = 1'700'000'000'000'000'000;
  out.begun = out.arrived + 10;
  out.first_token = out.arrived + 30;
  out.ended = out.arrived + 70;
  out.prompt_tokens = 5;
  out.generated_tokens = 7;
  out.max_tokens = 100;
  out.outcome = "eos_token";
  return out;
}

json::array spans_of(const request_trace& trace) {
  auto body = json::parse(runtime::otlp_json({&trace, 1}, "1.2"));
  const auto& resource = body.at("resourceSpans").at(0);
  CHECK(resource.at("resource").at("attributes").at(0).at("value").at("stringValue") == "troupe");
  return resource.at("scopeSpans").at(0).at("spans").as_array();
}

std::string attribute(const json::value& span, std::string_view name) {
  for (const auto& one : span.at("attributes").as_array())
    if (one.at("key").as_string() == name)
      return json::serialize(one.at("value"));
  return {};
}

} // namespace

TEST_CASE("a trace context is read as W3C writes it", "[telemetry][traces]") {
  auto read = parse_traceparent(parent);
  REQUIRE(read);
  CHECK(read->trace == "0af7651916cd43dd8448eb211c80319c");
  CHECK(read->span == "b7ad6b7169203331");
  CHECK(read->sampled);
  CHECK_FALSE(
      parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")->sampled);
  CHECK(parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
  for (auto bad : {"", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                   "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                   "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                   "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                   "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                   "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    CHECK(!parse_traceparent(bad));
}

TEST_CASE("a request becomes a span with one for each stage", "[runtime][traces]") {
  auto trace = finished();
  trace.parent = parent;
  auto spans = spans_of(trace);
  REQUIRE(spans.size() == 4);
  const auto& root = spans[0];
  CHECK(root.at("name") == "chat tiny");
  CHECK(root.at("kind") == 2);
  CHECK(root.at("traceId") == "0af7651916cd43dd8448eb211c80319c");
  CHECK(root.at("parentSpanId") == "b7ad6b7169203331");
  CHECK(root.at("startTimeUnixNano") == "1700000000000000000");
  CHECK(root.at("endTimeUnixNano") == "1700000000000000070");
  CHECK(attribute(root, "gen_ai.usage.input_tokens") == R"({"intValue":"5"})");
  CHECK(attribute(root, "gen_ai.usage.output_tokens") == R"({"intValue":"7"})");
  CHECK(attribute(root, "gen_ai.response.finish_reasons").find("eos_token") != std::string::npos);
  CHECK(attribute(root, "troupe.request.id") == R"({"stringValue":"r1"})");
  CHECK(attribute(root, "error.type").empty());
  const char* names[] = {"queue", "prefill", "decode"};
  const char* begins[] = {"00", "10", "30"};
  const char* ends[] = {"10", "30", "70"};
  for (size_t i = 0; i < 3; ++i) {
    const auto& child = spans[i + 1];
    CHECK(child.at("name") == names[i]);
    CHECK(child.at("parentSpanId") == root.at("spanId"));
    CHECK(child.at("traceId") == root.at("traceId"));
    CHECK(child.at("startTimeUnixNano").as_string().ends_with(begins[i]));
    CHECK(child.at("endTimeUnixNano").as_string().ends_with(ends[i]));
  }
}

TEST_CASE("a request that fails early has no later stages", "[runtime][traces]") {
  auto trace = finished();
  trace.begun = trace.first_token = 0;
  trace.outcome = "refused";
  trace.failed = true;
  auto spans = spans_of(trace);
  REQUIRE(spans.size() == 2);
  CHECK(spans[0].at("traceId").as_string().size() == 32);
  CHECK(!spans[0].as_object().contains("parentSpanId"));
  CHECK(spans[0].at("status").at("code") == 2);
  CHECK(attribute(spans[0], "error.type").find("refused") != std::string::npos);
  CHECK(spans[1].at("name") == "queue");
  CHECK(spans[1].at("endTimeUnixNano") == spans[0].at("endTimeUnixNano"));
}

TEST_CASE("what the queue has no room for is dropped and counted", "[telemetry][traces]") {
  trace_queue queue{2};
  CHECK_FALSE(queue.on());
  CHECK(queue.take(5, 1ms).empty());
  for (int i = 0; i < 5; ++i)
    queue.push(finished());
  CHECK(queue.dropped() == 3);
  CHECK(queue.take(1, 1ms).size() == 1);
  CHECK(queue.take(5, 1ms).size() == 1);
  queue.wake();
  CHECK(queue.take(5, 1h).empty());
}

TEST_CASE("an endpoint that is no URL is refused", "[runtime][traces]") {
  auto made = runtime::otlp_exporter::start("collector:4318", "1");
  REQUIRE(!made);
  CHECK(code_of(made.error()) == ec::bad_option);
  CHECK(text_of(made.error()).find("http://HOST:PORT") != std::string::npos);
}
