#include "troupe/http/management.hpp"

#include <algorithm>
#include <charconv>

#include "troupe/config/error.hpp"
#include "troupe/http/dialects/fields.hpp"
#include "troupe/http/errors.hpp"
#include "troupe/http/json/value.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

constexpr std::string_view bad_request = "BadRequestException";

reply wrong_method() {
  return lmi_error(405, "MethodNotAllowedException",
                   "Requested method is not allowed, please refer to API document.");
}

std::optional<int64_t> to_integer(std::string_view text) {
  int64_t out = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty()
             ? std::optional{out}
             : std::nullopt;
}

reply not_a_number(std::string_view name, std::string_view given) {
  return lmi_error(400, "NumberFormatException",
                   std::string{name} + " must be a whole number, not \"" + std::string{given} +
                       "\"");
}

/// The arguments of a request by name: of its query, or of a JSON body.
class arguments {
public:
  /// @returns what is wrong with the body.
  std::optional<reply> read(const request& r) {
    for (const auto& [name, content] : r.query)
      set(name, content);
    auto* type = r.header("content-type");
    if (r.body.empty() || !type || lower(*type).find("json") == std::string::npos)
      return std::nullopt;
    auto parsed = json::parse(r.body);
    if (!parsed)
      return lmi_error(400, bad_request, "the body is no JSON: " + text_of(parsed.error()));
    auto* members = parsed->as_object();
    if (!members)
      return lmi_error(400, bad_request,
                       "the body must be a JSON object of arguments, such as "
                       "{\"url\": \"file:///models/tiny\"}");
    for (const auto& [name, content] : *members)
      if (auto* text = content.as_string())
        set(name, *text);
      else if (auto* flag = content.as_bool())
        set(name, *flag ? "true" : "false");
      else if (auto* number = content.as_integer())
        set(name, std::to_string(*number));
      else if (!content.is_null())
        return lmi_error(400, bad_request,
                         name +
                             " must be a string, a whole number or a boolean, "
                             "not " +
                             std::string{content.kind()});
    return std::nullopt;
  }

  /// Empty: not given.
  std::string text(std::string_view name) const {
    for (const auto& [key, content] : all_)
      if (key == name)
        return content;
    return {};
  }

private:
  void set(const std::string& name, std::string content) {
    if (text(name).empty())
      all_.emplace_back(name, std::move(content));
  }

  std::vector<name_value> all_;
};

management_call read_registration(const request& r) {
  arguments given;
  if (auto problem = given.read(r))
    return std::move(*problem);
  registration_request out;
  auto& wanted = out.wanted;
  wanted.url = given.text("url");
  if (wanted.url.empty())
    return lmi_error(400, bad_request, "Parameter url is required.");
  wanted.name = given.text("model_name");
  if (wanted.name.empty())
    wanted.name = config::inferred_name(wanted.url);
  if (wanted.name.empty() || wanted.name.find('/') != std::string::npos)
    return lmi_error(400, bad_request,
                     "model_name must be a name without slashes, not \"" + wanted.name + "\"");
  wanted.version = given.text("model_version");
  wanted.engine = given.text("engine");
  wanted.devices = given.text("device");
  for (auto name : {"job_queue_size", "batch_size", "max_batch_delay", "max_idle_time",
                    "min_worker", "max_worker"}) {
    auto content = given.text(name);
    if (content.empty())
      continue;
    auto number = to_integer(content);
    if (!number)
      return not_a_number(name, content);
    if (*number >= 0)
      wanted.arguments.emplace(name, content);
  }
  out.synchronous = lower(given.text("synchronous")) != "false";
  return out;
}

/// A device as its number, -1 for the CPU.
std::optional<int32_t> to_device(std::string_view text) {
  if (text == "cpu" || text == "-1")
    return -1;
  if (text.starts_with("gpu"))
    text.remove_prefix(3);
  const auto number = to_integer(text);
  return number && *number >= 0 && *number <= INT32_MAX
             ? std::optional{static_cast<int32_t>(*number)}
             : std::nullopt;
}

/// "*", "-1", "gpu0", "0;1". @returns what is wrong with it.
std::optional<reply> read_devices(std::string_view given, std::vector<int32_t>& out) {
  if (given.empty() || given == "*")
    return std::nullopt;
  for (size_t begin = 0; begin <= given.size();) {
    const auto end = std::min(given.find_first_of(";,", begin), given.size());
    const auto device = to_device(given.substr(begin, end - begin));
    if (!device)
      return lmi_error(400, bad_request,
                       "device must be *, cpu, or GPUs such as 0;1 or gpu0, not \"" +
                           std::string{given} + "\"");
    out.push_back(*device);
    begin = end + 1;
  }
  return std::nullopt;
}

management_call read_scaling(const request& r, std::string_view name, std::string_view version) {
  worker_scaling out;
  out.model = name;
  out.version = version;
  for (auto [key, to] : {std::pair{"min_worker", &out.min}, {"max_worker", &out.max}})
    if (auto* given = r.query_value(key)) {
      auto number = to_integer(*given);
      if (!number)
        return not_a_number(key, *given);
      *to = *number;
    }
  if (auto* given = r.query_value("device"))
    if (auto problem = read_devices(*given, out.devices))
      return std::move(*problem);
  return out;
}

management_call read_list(const request& r, bool workflows) {
  constexpr int64_t most = 100;
  int64_t limit = most, first = 0;
  for (auto [key, to] : {std::pair{"limit", &limit}, {"next_page_token", &first}})
    if (auto* given = r.query_value(key)) {
      auto number = to_integer(*given);
      if (!number)
        return not_a_number(key, *given);
      *to = *number;
    }
  if (limit < 0 || limit > most)
    limit = most;
  return list_view(workflows, static_cast<size_t>(std::max<int64_t>(first, 0)),
                   static_cast<size_t>(limit));
}

/// POST /workflows: a model is registered with POST /models.
reply no_templates(const request& r) {
  auto named = r.query_value("url") || r.query_value("template");
  return lmi_error(400, bad_request,
                   named ? "Workflows of several models are not supported: register a model with "
                           "POST /models, which makes a workflow of it."
                         : "Either parameter url or template is required.");
}

} // namespace

management_call read_management(const request& r, const std::vector<std::string_view>& at) {
  const bool workflows = at[0] == "workflows";
  const bool get = r.method == "GET" || r.method == "HEAD";
  if (at.size() == 1) {
    if (get)
      return read_list(r, workflows);
    if (r.method != "POST")
      return wrong_method();
    return workflows ? management_call{no_templates(r)} : read_registration(r);
  }
  if (at.size() > 3 || (at.size() == 3 && at[2] == "adapters"))
    return unknown_route(error_style::lmi);
  auto version = at.size() == 3 ? std::optional{std::string{at[2]}} : std::nullopt;
  if (get)
    return describe_view(std::string{at[1]}, std::move(version));
  if (r.method == "PUT")
    return read_scaling(r, at[1], version.value_or(""));
  if (r.method == "DELETE")
    return unregistration_request{std::string{at[1]}, std::move(version)};
  return wrong_method();
}

reply registered_reply(const registration_request& asked) {
  auto quoted = "Model \"" + asked.wanted.name + "\" ";
  auto out = status_reply(quoted + (asked.synchronous ? "registered." : "registration scheduled."));
  out.status = asked.synchronous ? 200 : 202;
  return out;
}

reply scaled_reply(const worker_scaling& wanted, const std::vector<model_status>& models) {
  std::string lines;
  for (const auto& m : models) {
    if (!lines.empty())
      lines += '\n';
    auto min = m.registered.min_workers, max = m.registered.max_workers;
    for (const auto& group : m.groups)
      if (!wanted.devices.empty() &&
          (group.device == wanted.devices.front() ||
           std::count(group.devices.begin(), group.devices.end(), wanted.devices.front()) > 0)) {
        min = group.min_workers;
        max = group.max_workers;
      }
    lines += "Workflow \"" + m.name +
             "\" worker scaled. New Worker configuration min workers:" + std::to_string(min) +
             " max workers:" + std::to_string(max);
  }
  return status_reply(lines);
}

reply unregistered_reply(const std::string& name) {
  return status_reply("Model or workflow \"" + name + "\" unregistered");
}

reply management_error(const std::string& name, const std::string& version, const caf::error& why) {
  auto text = text_of(why);
  switch (code_of(why)) {
  case ec::name_taken:
    return lmi_error(409, bad_request,
                     "Workflow " + label_of(name, version) + " is already registered.");
  case ec::model_not_found:
  case ec::unreachable: // Whatever it names, nothing is found there.
    return lmi_error(404, "ModelNotFoundException", text);
  case ec::out_of_memory:
    return lmi_error(507, "WlmOutOfMemoryException", text);
  case ec::bad_option:
    return lmi_error(400, "IllegalConfigurationException", text);
  case ec::bad_model:
  case ec::unsupported_model:
    return lmi_error(400, "MalformedModelException", text);
  case ec::invalid_request:
    return lmi_error(400, bad_request, text);
  case ec::cancelled:
    return lmi_error(409, bad_request, text);
  case ec::model_not_ready:
  case ec::shutting_down:
    return lmi_error(503, "ServiceUnavailableException", text);
  default:
    return lmi_error(500, "EngineException", text);
  }
}

} // namespace troupe::http
