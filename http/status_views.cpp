#include "troupe/http/status_views.hpp"

#include <algorithm>
#include <map>

#include "troupe/http/dialects/sampling.hpp"
#include "troupe/http/errors.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

/// Versions of one name share its place in /ping; the worst of them is shown.
int urgency(model_state state) {
  switch (state) {
  case model_state::failed:
    return 3;
  case model_state::loading:
    return 2;
  case model_state::ready:
  case model_state::stopped:
    return 0;
  default:
    return 1;
  }
}

bool serves(model_state state) {
  return state == model_state::ready || state == model_state::degraded;
}

void append_model(std::string& out, const model_status& model) {
  out += "{\"id\":";
  json::append_string(out, model.name);
  out += ",\"object\":\"model\",\"created\":";
  json::append_integer(out, model.since_unix);
  out += ",\"owned_by\":\"troupe\",\"max_model_len\":";
  json::append_unsigned(out, model.context);
  out += '}';
}

} // namespace

std::string_view health_of(model_state state) {
  switch (state) {
  case model_state::loading:
    return "PENDING";
  case model_state::failed:
    return "FAILED";
  case model_state::ready:
  case model_state::stopped:
    return "Healthy";
  default:
    return "Unhealthy";
  }
}

void keep_ready(std::vector<model_status>& models) {
  for (auto& model : models)
    if (has_used_up_retries(model))
      model.state = model_state::ready;
}

status_view ping_view(const ping_rules& rules) {
  return [=](const std::vector<model_status>& models) {
    reply out;
    out.body = "{";
    auto any = [&](model_state state) {
      return std::any_of(models.begin(), models.end(),
                         [=](const model_status& x) { return x.state == state; });
    };
    std::map<std::string, model_state> names;
    for (const auto& model : models) {
      auto [it, fresh] = names.emplace(model.name, model.state);
      if (!fresh && urgency(model.state) > urgency(it->second))
        it->second = model.state;
    }
    for (const auto& [name, state] : names) {
      out.body += out.body.size() > 1 ? ",\n  " : "\n  ";
      json::append_string(out.body, name);
      out.body += ": {\"status\": ";
      json::append_string(out.body, health_of(state));
      out.body += '}';
    }
    out.body += models.empty() ? "}\n" : "\n}\n";
    auto unhealthy =
        any(model_state::degraded) || any(model_state::reloading) || any(model_state::draining);
    if (rules.too_many_errors)
      out.status = 503;
    else if (any(model_state::failed) || (unhealthy && rules.fail_unhealthy))
      out.status = 500;
    else if (any(model_state::loading) && rules.multi_status)
      out.status = 207;
    return out;
  };
}

reply draining_reply() {
  auto out = lmi_error(503, "ServiceUnavailableException", "The server is shutting down.");
  out.headers.emplace_back("retry-after", "1");
  return out;
}

status_view models_view(std::string name) {
  return [name = std::move(name)](const std::vector<model_status>& models) {
    reply out;
    if (!name.empty()) {
      for (const auto& model : models)
        if (model.name == name) {
          append_model(out.body, model);
          return out;
        }
      return openai_error(404, "model_not_found", "The model '" + name + "' does not exist",
                          "model");
    }
    out.body = "{\"object\":\"list\",\"data\":[";
    for (size_t i = 0; i < models.size(); ++i) {
      if (i > 0 && models[i].name == models[i - 1].name)
        continue; // Another version.
      if (i > 0)
        out.body += ',';
      append_model(out.body, models[i]);
    }
    out.body += "]}";
    return out;
  };
}

reply unhealthy_reply() {
  auto out = tgi_error(503, "healthcheck", "unhealthy");
  out.headers.emplace_back("retry-after", "1");
  return out;
}

status_view health_view() {
  return [](const std::vector<model_status>& models) {
    auto ready = std::any_of(models.begin(), models.end(),
                             [](const model_status& x) { return serves(x.state); });
    if (!ready)
      return unhealthy_reply();
    reply out;
    out.content_type.clear();
    return out;
  };
}

status_view info_view(std::string name, std::string version) {
  return [=](const std::vector<model_status>& models) {
    auto found = std::find_if(models.begin(), models.end(), [&](const model_status& x) {
      return name.empty() ? serves(x.state) : x.name == name;
    });
    if (found == models.end())
      return name.empty() ? unhealthy_reply()
                          : tgi_error(404, "not_found", "no model is called " + name);
    reply out;
    auto& body = out.body;
    body = "{\"model_id\":";
    json::append_string(body, found->name);
    body += ",\"model_sha\":null,\"model_pipeline_tag\":\"text-generation\",\"max_best_of\":";
    json::append_integer(body, most_choices);
    body += ",\"max_stop_sequences\":";
    json::append_unsigned(body, most_stops);
    body += ",\"max_input_tokens\":";
    json::append_unsigned(body, found->context > 0 ? found->context - 1 : 0);
    body += ",\"max_total_tokens\":";
    json::append_unsigned(body, found->context);
    body += ",\"router\":\"troupe\",\"version\":";
    json::append_string(body, version);
    body += ",\"sha\":null,\"docker_label\":null}";
    return out;
  };
}

status_view options_view(std::string name) {
  return [name = std::move(name)](const std::vector<model_status>& models) {
    for (const auto& model : models)
      if (model.name == name) {
        reply out;
        out.body = "{}";
        return out;
      }
    return lmi_error(404, "ModelNotFoundException", "Model or workflow not found: " + name);
  };
}

} // namespace troupe::http
