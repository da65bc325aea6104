#include <catch2/catch.hpp>

#include "troupe/http/metrics_text.hpp"

using namespace troupe;
using namespace troupe::http;

TEST_CASE("families are rendered as Prometheus reads them", "[http][metrics]") {
  telemetry::family count{"a_total", "How many.", telemetry::family_type::counter, {}};
  telemetry::sample one;
  one.labels = {{"model", "x\"\\\n"}};
  one.value = 3;
  count.samples.push_back(one);
  telemetry::family times{"b_seconds", "How long.", telemetry::family_type::histogram, {}};
  telemetry::sample two;
  two.bounds = {0.5, 1};
  two.cumulative = {1, 2, 4};
  two.sum = 7.25;
  times.samples.push_back(two);
  CHECK(prometheus_text({count, times}, {}) ==
        "# HELP a_total How many.\n# TYPE a_total counter\na_total{model=\"x\\\"\\\\\\n\"} 3\n"
        "# HELP b_seconds How long.\n# TYPE b_seconds histogram\n"
        "b_seconds_bucket{le=\"0.5\"} 1\nb_seconds_bucket{le=\"1\"} 2\n"
        "b_seconds_bucket{le=\"+Inf\"} 4\nb_seconds_sum 7.25\nb_seconds_count 4\n");
  CHECK(prometheus_text({count, times}, {"b_seconds"}).find("a_total") == std::string::npos);
  CHECK(prometheus_text({count, times}, {"a"}).find("a_total{") != std::string::npos);
  CHECK(prometheus_text({count}, {"none"}).empty());
}

TEST_CASE("the front end's families carry DJL Serving's names", "[http][metrics]") {
  front_metrics metrics;
  metrics.count_response(200);
  metrics.count_response(424);
  metrics.count_response(503);
  auto text = prometheus_text(front_families(metrics, {"h", "1.0", 12}), {});
  for (auto line : {"StartupLatency{Host=\"h\"} 12\n", "DJLServingStart_total{Version=\"1.0\"} 1\n",
                    "Response_2XX_total{Host=\"h\"} 1\n", "Response_4XX_total{Host=\"h\"} 1\n",
                    "Response_5XX_total{Host=\"h\"} 1\n", "WlmError_total{Host=\"h\"} 1\n",
                    "ServerError_total{Host=\"h\"} 0\n"})
    CHECK(text.find(line) != std::string::npos);
  CHECK(text.find("GPUMemory") == std::string::npos);
  auto devices = prometheus_text(device_families({{0, 12}, {3, 34}}, {"h", "1.0", 12}), {});
  CHECK(devices.find("GPUMemory_0{Host=\"h\"} 12\n") != std::string::npos);
  CHECK(devices.find("GPUMemory_3{Host=\"h\"} 34\n") != std::string::npos);
}
