#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "troupe/http/errors.hpp"
#include "troupe/http/json/write.hpp"
#include "troupe/http/management.hpp"

namespace troupe::http {

namespace {

/// Writes the pretty-printed JSON of the management API; members that are not set are left out.
class pretty {
public:
  void open(char bracket) {
    begin();
    out_ += bracket;
    ++depth_;
    first_ = true;
  }
  void close(char bracket) {
    --depth_;
    if (!first_)
      line();
    out_ += bracket;
    first_ = false;
  }
  pretty& key(std::string_view name) {
    begin();
    json::append_string(out_, name);
    out_ += ": ";
    after_key_ = true;
    return *this;
  }
  void text(std::string_view x) {
    begin();
    json::append_string(out_, x);
  }
  void number(int64_t x) {
    begin();
    json::append_integer(out_, x);
  }
  void boolean(bool x) {
    begin();
    out_ += x ? "true" : "false";
  }
  std::string take() {
    out_ += '\n';
    return std::move(out_);
  }

private:
  void line() {
    out_ += '\n';
    out_.append(2 * depth_, ' ');
  }
  /// What stands before a value or a key.
  void begin() {
    if (std::exchange(after_key_, false))
      return;
    if (!first_)
      out_ += ',';
    if (depth_ > 0)
      line();
    first_ = false;
  }

  std::string out_;
  size_t depth_ = 0;
  bool first_ = true;
  bool after_key_ = false;
};

std::string iso_time(int64_t since_ms) {
  auto seconds = static_cast<time_t>(since_ms / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char day[32], whole[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(whole, sizeof whole, "%s.%03dZ", day, static_cast<int>(since_ms % 1000));
  return whole;
}

std::string_view list_status(model_state state) {
  switch (state) {
  case model_state::loading:
    return "PENDING";
  case model_state::failed:
    return "FAILED";
  default:
    return "READY";
  }
}

/// LMI has no word for one that loads.
std::string_view word_of(worker_state state) {
  switch (state) {
  case worker_state::loading:
    return "LOADING";
  case worker_state::unloading:
    return "UNLOADING";
  case worker_state::ready:
    break;
  }
  return "READY";
}

const std::string& url_of(const model_status& m) {
  if (!m.registered.url.empty())
    return m.registered.url;
  return m.folder.empty() ? m.name : m.folder;
}

void write_version(pretty& out, const model_status& m) {
  if (!m.registered.version.empty())
    out.key("version").text(m.registered.version);
}

void write_group(pretty& out, const worker_group& group) {
  out.open('{');
  out.key("device").open('{');
  out.key("deviceType").text(group.device < 0 ? "cpu" : "gpu");
  out.key("deviceId").number(group.device);
  out.close('}');
  out.key("minWorkers").number(group.min_workers);
  out.key("maxWorkers").number(group.max_workers);
  out.key("workers").open('[');
  for (const auto& worker : group.workers) {
    out.open('{');
    out.key("id").number(worker.id);
    out.key("startTime").text(iso_time(worker.since_ms));
    out.key("status").text(word_of(worker.state));
    out.close('}');
  }
  out.close(']');
  out.close('}');
}

void write_model(pretty& out, const model_status& m) {
  const auto& as = m.registered;
  out.open('{');
  out.key("modelName").text(m.name);
  out.key("modelUrl").text(url_of(m));
  out.key("batchSize").number(as.batch_size);
  out.key("maxBatchDelayMillis").number(as.max_batch_delay_ms);
  out.key("maxIdleSeconds").number(as.max_idle_seconds);
  out.key("queueSize").number(m.queue_limit);
  out.key("requestInQueue").number(m.queued);
  out.key("status").text(health_of(m.state));
  if (!m.problem.empty())
    out.key("reason").text(m.problem);
  out.key("loadedAtStartup").boolean(as.at_startup);
  out.key("workerGroups").open('[');
  for (const auto& group : m.groups)
    write_group(out, group);
  out.close(']');
  out.close('}');
}

} // namespace

status_view list_view(bool workflows, size_t first, size_t limit) {
  return [=](const std::vector<model_status>& models) {
    const auto begin = std::min(first, models.size());
    const auto end = begin + std::min(limit, models.size() - begin);
    pretty out;
    out.open('{');
    if (end < models.size())
      out.key("nextPageToken").text(std::to_string(end));
    out.key(workflows ? "workflows" : "models").open('[');
    for (auto i = begin; i < end; ++i) {
      const auto& m = models[i];
      out.open('{');
      out.key(workflows ? "workflowName" : "modelName").text(m.name);
      write_version(out, m);
      if (!workflows) {
        out.key("modelUrl").text(url_of(m));
        out.key("status").text(list_status(m.state));
      }
      out.close('}');
    }
    out.close(']');
    out.close('}');
    reply answer;
    answer.body = out.take();
    return answer;
  };
}

status_view describe_view(std::string name, std::optional<std::string> version) {
  return [=](const std::vector<model_status>& models) {
    pretty out;
    bool any = false;
    out.open('[');
    for (const auto& m : models) {
      if (m.name != name || m.registered.version != version.value_or(m.registered.version))
        continue;
      any = true;
      out.open('{');
      out.key("workflowName").text(m.name);
      write_version(out, m);
      out.key("models").open('[');
      write_model(out, m);
      out.close(']');
      out.close('}');
    }
    out.close(']');
    if (!any)
      return lmi_error(404, "ModelNotFoundException", "Workflow not found: " + name);
    reply answer;
    answer.body = out.take();
    return answer;
  };
}

} // namespace troupe::http
