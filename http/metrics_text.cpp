#include "troupe/http/metrics_text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "troupe/actors/telemetry/traces.hpp"

namespace troupe::http {

namespace {

using telemetry::family;
using telemetry::family_type;
using telemetry::label;
using telemetry::sample;

void append_number(std::string& out, double x) {
  if (std::isinf(x) || std::isnan(x)) {
    out += std::isnan(x) ? "NaN" : x > 0 ? "+Inf" : "-Inf";
    return;
  }
  char text[40];
  auto end = std::to_chars(text, text + sizeof text, x).ptr;
  out.append(text, static_cast<size_t>(end - text));
}

void append_label(std::string& out, std::string_view name, std::string_view content) {
  out.append(name).append("=\"");
  for (auto c : content) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\')
      out += '\\';
    out += c;
  }
  out += '"';
}

/// @param bound A further label "le"; empty = none.
void append_series(std::string& out, std::string_view name, std::string_view suffix,
                   const std::vector<label>& labels, std::string_view bound, double x) {
  out.append(name).append(suffix);
  if (!labels.empty() || !bound.empty()) {
    out += '{';
    for (size_t i = 0; i < labels.size(); ++i) {
      if (i > 0)
        out += ',';
      append_label(out, labels[i].name, labels[i].value);
    }
    if (!bound.empty()) {
      if (!labels.empty())
        out += ',';
      append_label(out, "le", bound);
    }
    out += '}';
  }
  out += ' ';
  append_number(out, x);
  out += '\n';
}

void append_histogram(std::string& out, const std::string& name, const sample& x) {
  for (size_t i = 0; i < x.cumulative.size(); ++i) {
    std::string bound = "+Inf";
    if (i < x.bounds.size()) {
      bound.clear();
      append_number(bound, x.bounds[i]);
    }
    append_series(out, name, "_bucket", x.labels, bound, static_cast<double>(x.cumulative[i]));
  }
  append_series(out, name, "_sum", x.labels, {}, x.sum);
  append_series(out, name, "_count", x.labels, {},
                x.cumulative.empty() ? 0 : static_cast<double>(x.cumulative.back()));
}

bool wanted(const std::string& name, const std::vector<std::string>& only) {
  return only.empty() || std::any_of(only.begin(), only.end(), [&](const std::string& x) {
           return x == name || x + "_total" == name;
         });
}

family single(std::string name, std::string help, family_type type, std::vector<label> labels,
              double x) {
  family out{std::move(name), std::move(help), type, {}};
  sample only;
  only.labels = std::move(labels);
  only.value = x;
  out.samples.push_back(std::move(only));
  return out;
}

} // namespace

void front_metrics::count_response(int status) {
  if (status < 400)
    responses_2xx.add();
  else if (status < 500)
    responses_4xx.add();
  else
    responses_5xx.add();
  if (status == 503 || status == 507)
    wlm_errors.add();
  else if (status >= 500)
    server_errors.add();
}

std::vector<family> front_families(const front_metrics& metrics, const server_facts& facts) {
  std::vector<family> out;
  std::vector<label> host{{"Host", facts.host}};
  auto count = [&](std::string name, std::string help, const telemetry::counter& x) {
    auto labels = name.starts_with("troupe_") ? std::vector<label>{} : host;
    out.push_back(single(std::move(name), std::move(help), family_type::counter, std::move(labels),
                         static_cast<double>(x.value())));
  };
  out.push_back(single("DJLServingStart_total", "Starts of the server.", family_type::counter,
                       {{"Version", facts.version}}, 1));
  out.push_back(single("StartupLatency", "Microseconds from process start to listening.",
                       family_type::gauge, host, facts.startup_microseconds));
  count("Response_2XX_total", "Responses with a status below 400.", metrics.responses_2xx);
  count("Response_4XX_total", "Responses with a status from 400 to 499.", metrics.responses_4xx);
  count("Response_5XX_total", "Responses with a status from 500.", metrics.responses_5xx);
  count("WlmError_total", "Requests refused for lack of room or readiness.", metrics.wlm_errors);
  count("ServerError_total", "Responses with a status from 500 for other reasons.",
        metrics.server_errors);
  count("troupe_http_requests_total", "HTTP requests received.", metrics.requests);
  out.push_back(single("troupe_traces_dropped_total", "Traces that no collector took in time.",
                       family_type::counter, {},
                       static_cast<double>(telemetry::traces().dropped())));
  count("troupe_http_connections_total", "Connections accepted.", metrics.connections);
  count("troupe_http_sent_bytes_total", "Bytes written to clients.", metrics.bytes_sent);
  out.push_back(single("troupe_http_open_connections", "Connections open now.", family_type::gauge,
                       {}, static_cast<double>(metrics.open_connections.value())));
  out.push_back(single("troupe_http_open_streams", "Answers being streamed now.",
                       family_type::gauge, {}, static_cast<double>(metrics.open_streams.value())));
  return out;
}

std::vector<family> device_families(const std::vector<device_memory>& devices,
                                    const server_facts& facts) {
  std::vector<family> out;
  for (const auto& device : devices)
    out.push_back(single("GPUMemory_" + std::to_string(device.ordinal),
                         "Bytes of this GPU's memory in use, by whomever.", family_type::gauge,
                         {{"Host", facts.host}}, static_cast<double>(device.used_bytes)));
  return out;
}

std::vector<family> derived_families(const std::vector<family>& from) {
  struct derivation {
    std::string_view ours, name, help;
    double scale;
  };
  static constexpr derivation known[] = {
      {"troupe_request_seconds", "RequestLatency",
       "Microseconds from a request's arrival to its last event.", 1e6},
      {"troupe_queue_seconds", "QueueTime",
       "Microseconds from a sequence's submission to its first step.", 1e6},
      {"troupe_slot_timeouts_total", "RollingBatchTimeout_total",
       "Sequences that got no slot in time.", 1},
      {"troupe_loading_errors_total", "ModelLoadingError_total",
       "Times that the model could not be loaded.", 1},
      {"troupe_load_microseconds", "LoadModel", "Microseconds that loading took.", 1},
      {"troupe_register_microseconds", "RegisterWorkflow",
       "Microseconds from the registration to the model's readiness.", 1},
      {"troupe_download_microseconds", "DownloadModel",
       "Microseconds that fetching the model and reading its settings took.", 1},
  };
  std::vector<family> out;
  for (const auto& one : known)
    for (const auto& ours : from) {
      if (ours.name != one.ours)
        continue;
      auto copy = ours;
      copy.name = one.name;
      copy.help = one.help;
      for (auto& x : copy.samples) {
        for (auto& label : x.labels)
          if (label.name == "model")
            label.name = "Model";
        for (auto& bound : x.bounds)
          bound *= one.scale;
        x.sum *= one.scale;
      }
      out.push_back(std::move(copy));
    }
  return out;
}

std::string prometheus_text(const std::vector<family>& families,
                            const std::vector<std::string>& only) {
  static constexpr std::string_view types[] = {"counter", "gauge", "histogram"};
  std::string out;
  for (const auto& one : families) {
    if (!wanted(one.name, only))
      continue;
    out.append("# HELP ").append(one.name).append(" ").append(one.help).append("\n# TYPE ");
    out.append(one.name).append(" ").append(types[static_cast<size_t>(one.type)]).append("\n");
    for (const auto& x : one.samples) {
      if (one.type == family_type::histogram)
        append_histogram(out, one.name, x);
      else
        append_series(out, one.name, {}, x.labels, {}, x.value);
    }
  }
  return out;
}

} // namespace troupe::http
