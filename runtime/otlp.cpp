#include "troupe/runtime/otlp.hpp"

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include <boost/json.hpp>
#include <curl/curl.h>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/error.hpp"

namespace troupe::runtime {

namespace {

using namespace std::chrono_literals;
namespace json = boost::json;

constexpr size_t most_at_once = 512;
constexpr auto interval = 1s;
constexpr auto patience_at_end = 2s;

std::string random_hex(size_t digits) {
  constexpr char hex[] = "0123456789abcdef";
  static std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^
                                   std::random_device{}()};
  std::string out;
  while (out.size() < digits) {
    auto bits = generator();
    for (int i = 0; i < 16 && out.size() < digits; ++i, bits >>= 4)
      out += hex[bits & 15];
  }
  return out;
}

json::object attribute(std::string_view name, json::object value) {
  return {{"key", name}, {"value", std::move(value)}};
}
json::object text(std::string_view name, std::string_view x) {
  return attribute(name, {{"stringValue", x}});
}
/// 64-bit integers are strings in OTLP's JSON.
json::object number(std::string_view name, uint64_t x) {
  return attribute(name, {{"intValue", std::to_string(x)}});
}
json::object real(std::string_view name, double x) {
  return attribute(name, {{"doubleValue", x}});
}

enum class span_kind : int { internal = 1, server = 2 };

json::object make_span(std::string_view trace, std::string_view id, std::string_view parent,
                       std::string_view name, span_kind kind, int64_t begin, int64_t end) {
  json::object out{{"traceId", trace},
                   {"spanId", id},
                   {"name", name},
                   {"kind", static_cast<int>(kind)},
                   {"startTimeUnixNano", std::to_string(begin)},
                   {"endTimeUnixNano", std::to_string(std::max(begin, end))}};
  if (!parent.empty())
    out["parentSpanId"] = parent;
  return out;
}

json::array attributes_of(const telemetry::request_trace& x) {
  json::array out;
  out.push_back(text("gen_ai.operation.name", x.operation));
  out.push_back(text("gen_ai.provider.name", "troupe"));
  out.push_back(text("gen_ai.request.model", x.model));
  out.push_back(text("gen_ai.response.model", x.model));
  out.push_back(text("troupe.request.id", x.request));
  if (x.max_tokens >= 0)
    out.push_back(number("gen_ai.request.max_tokens", static_cast<uint64_t>(x.max_tokens)));
  out.push_back(real("gen_ai.request.temperature", x.temperature));
  out.push_back(real("gen_ai.request.top_p", x.top_p));
  out.push_back(number("gen_ai.usage.input_tokens", x.prompt_tokens));
  out.push_back(number("gen_ai.usage.output_tokens", x.generated_tokens));
  out.push_back(number("troupe.usage.cached_tokens", x.cached_tokens));
  if (x.failed)
    out.push_back(text("error.type", x.outcome));
  else
    out.push_back(attribute(
        "gen_ai.response.finish_reasons",
        {{"arrayValue",
          json::object{{"values", json::array{json::object{{"stringValue", x.outcome}}}}}}}));
  return out;
}

void append_spans(json::array& to, const telemetry::request_trace& x) {
  auto parent = telemetry::parse_traceparent(x.parent);
  auto trace = parent ? parent->trace : random_hex(32);
  auto id = random_hex(16);
  auto root = make_span(trace, id, parent ? parent->span : "", x.operation + " " + x.model,
                        span_kind::server, x.arrived, x.ended);
  root["attributes"] = attributes_of(x);
  root["status"] = x.failed ? json::object{{"code", 2}, {"message", x.outcome}} : json::object{};
  to.push_back(std::move(root));
  auto add = [&](std::string_view name, int64_t begin, int64_t end) {
    if (begin > 0)
      to.push_back(make_span(trace, random_hex(16), id, name, span_kind::internal, begin,
                             end > 0 ? end : x.ended));
  };
  add("queue", x.arrived, x.begun);
  add("prefill", x.begun, x.first_token);
  add("decode", x.first_token, x.ended);
}

size_t ignore_answer(char*, size_t size, size_t count, void*) {
  return size * count;
}

} // namespace

std::string otlp_json(std::span<const telemetry::request_trace> traces, std::string_view version) {
  json::array spans;
  for (const auto& one : traces)
    append_spans(spans, one);
  json::object scope{{"scope", json::object{{"name", "troupe"}, {"version", version}}},
                     {"spans", std::move(spans)}};
  json::array about{text("service.name", "troupe"), text("service.version", version)};
  json::object resource{{"resource", json::object{{"attributes", std::move(about)}}},
                        {"scopeSpans", json::array{std::move(scope)}}};
  return json::serialize(json::object{{"resourceSpans", json::array{std::move(resource)}}});
}

struct otlp_exporter::sender {
  std::string url;
  std::string version;
  std::atomic<bool> ending{false};
  bool failing = false; ///< The last export failed: only the first of a row is logged.
  std::thread thread;

  void run() {
    std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl{curl_easy_init(), curl_easy_cleanup};
    std::chrono::steady_clock::time_point deadline{};
    for (;;) {
      auto batch = telemetry::traces().take(most_at_once, interval);
      if (ending && deadline == std::chrono::steady_clock::time_point{})
        deadline = std::chrono::steady_clock::now() + patience_at_end;
      if (!batch.empty() && (!ending || std::chrono::steady_clock::now() < deadline))
        send(curl.get(), batch);
      else
        telemetry::traces().drop(batch.size());
      if (ending && batch.empty())
        return;
    }
  }

  void send(CURL* curl, const std::vector<telemetry::request_trace>& batch) {
    auto body = otlp_json(batch, version);
    std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers{
        curl_slist_append(nullptr, "content-type: application/json"), curl_slist_free_all};
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_answer);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ending ? 1000L : 10'000L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    auto code = curl_easy_perform(curl);
    if (code != CURLE_OK)
      telemetry::traces().drop(batch.size());
    if (code != CURLE_OK && !failing)
      telemetry::log(telemetry::log_level::warn, {},
                     "traces cannot be sent to " + url + ": " + curl_easy_strerror(code) +
                         "; they are dropped until they can");
    failing = code != CURLE_OK;
  }
};

otlp_exporter::otlp_exporter(std::unique_ptr<sender> sender) : sender_(std::move(sender)) {
  telemetry::traces().switch_on(true);
  sender_->thread = std::thread{[this] { sender_->run(); }};
}

caf::expected<std::unique_ptr<otlp_exporter>> otlp_exporter::start(const std::string& endpoint,
                                                                   const std::string& version) {
  if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://"))
    return caf::make_error(ec::bad_option,
                           "otlp_endpoint " + endpoint +
                               " is no URL of the form http://HOST:PORT; collectors "
                               "mostly listen on port 4318 for it");
  auto made = std::make_unique<sender>();
  made->url = endpoint;
  made->version = version;
  while (made->url.ends_with('/'))
    made->url.pop_back();
  if (!made->url.ends_with("/v1/traces"))
    made->url += "/v1/traces";
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return std::unique_ptr<otlp_exporter>{new otlp_exporter{std::move(made)}};
}

otlp_exporter::~otlp_exporter() {
  telemetry::traces().switch_on(false);
  sender_->ending = true;
  telemetry::traces().wake();
  sender_->thread.join();
}

} // namespace troupe::runtime
