#include "troupe/config/model_request.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>

#include "troupe/config/collector.hpp"

namespace troupe::config {

namespace {

namespace fs = std::filesystem;

bool separates(char c) {
  return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// Where `]=` or the `=` behind a plain NAME:VERSION:... begins; npos when `entry` is a URL alone.
size_t end_of_head(std::string_view entry) {
  if (entry.starts_with('['))
    return entry.find("]=");
  auto at = entry.find('=');
  // What looks like a path or a query is one: its `=` belongs to the URL.
  return entry.substr(0, at).find_first_of("/?") == std::string_view::npos ? at
                                                                           : std::string_view::npos;
}

caf::error malformed(std::string_view entry, const std::string& why) {
  return caf::make_error(ec::bad_option,
                         "load_models: \"" + std::string{entry.substr(0, 80)} + "\" " + why +
                             "; an entry is URL or [NAME:VERSION:ENGINE:DEVICES]=URL");
}

caf::expected<model_request> parse_entry(std::string_view entry) {
  model_request out;
  auto end = end_of_head(entry);
  if (end == std::string_view::npos && entry.starts_with('['))
    return malformed(entry, "lacks ]= behind its bracket");
  auto url = entry;
  if (end != std::string_view::npos) {
    bool bracket = entry.starts_with('[');
    auto head = entry.substr(bracket ? 1 : 0, end - (bracket ? 1 : 0));
    url = entry.substr(end + (bracket ? 2 : 1));
    std::array<std::string*, 4> parts = {&out.name, &out.version, &out.engine, &out.devices};
    size_t i = 0;
    for (bool more = true; more; ++i) {
      auto colon = head.find(':');
      more = colon != std::string_view::npos;
      if (i == parts.size())
        return malformed(entry, "has more than four parts before its URL");
      *parts[i] = head.substr(0, colon);
      head.remove_prefix(more ? colon + 1 : head.size());
    }
  }
  for (size_t i = 0; i < url.size(); ++i) {
    if (url[i] == '\\' && i + 1 < url.size())
      ++i;
    out.url += url[i];
  }
  if (out.url.empty())
    return malformed(entry, "names no URL");
  return out;
}

std::string last_part(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  while (url.size() > 1 && url.ends_with('/'))
    url.remove_suffix(1);
  auto slash = url.rfind('/');
  return std::string{slash == std::string_view::npos ? url : url.substr(slash + 1)};
}

/// A relative path that is not there, but in the store, is meant to be the latter.
void look_in_store(model_request& request, const fs::path& store) {
  std::error_code code; // what cannot be looked at is for the loader to report
  fs::path path{request.url};
  if (!store.empty() && path.is_relative() && !fs::exists(path, code) &&
      fs::exists(store / path, code))
    request.url = (store / path).string();
}

/// Adds what load_models and model_store say.
caf::error add_configured(startup& out, const settings& server) {
  const auto& list = server.text("load_models");
  const fs::path store{server.text("model_store")};
  if (lowered(list) == "none")
    return {};
  if (lowered(list) != "all") {
    auto named = parse_load_models(list);
    if (!named)
      return std::move(named.error());
    for (auto& request : *named) {
      look_in_store(request, store);
      out.models.push_back(std::move(request));
    }
    return {};
  }
  if (store.empty())
    return {};
  auto found = scan_model_store(store);
  if (!found) {
    out.warnings.push_back("model_store (" + server.origin_of("model_store").where +
                           "): " + text_of(found.error()));
    return {};
  }
  out.models.insert(out.models.end(), found->begin(), found->end());
  return {};
}

bool from_flag(const settings& server, key<> k) {
  return server.origin_of(k).from == source::flag;
}

caf::error two_of_one_name(const std::vector<model_request>& models) {
  std::map<std::pair<std::string, std::string>, const model_request*> seen;
  for (const auto& one : models) {
    auto name = one.name.empty() ? inferred_name(one.url) : one.name;
    auto [at, fresh] = seen.emplace(std::pair{name, one.version}, &one);
    if (!fresh)
      return caf::make_error(
          ec::bad_option, "two models have the name " + name + ": " + at->second->url + " and " +
                              one.url + "; give one of them another, as in -m [NAME]=" + one.url);
  }
  return {};
}

} // namespace

caf::expected<std::vector<model_request>> parse_load_models(std::string_view text) {
  std::vector<model_request> out;
  size_t begin = 0;
  while (begin < text.size()) {
    if (separates(text[begin])) {
      ++begin;
      continue;
    }
    auto end = begin;
    for (; end < text.size() && !separates(text[end]); ++end)
      if (text[end] == '\\' && end + 1 < text.size())
        ++end;
    auto request = parse_entry(text.substr(begin, end - begin));
    if (!request)
      return std::move(request.error());
    out.push_back(std::move(*request));
    begin = end;
  }
  return out;
}

std::string with_kept_blanks(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (separates(c) && c != ',')
      out += '\\';
    out += c;
  }
  return out;
}

std::string_view archive_extension(std::string_view name) {
  constexpr auto known = std::to_array<std::string_view>({".zip", ".tar.gz", ".tgz", ".tar"});
  auto small = lowered(name);
  for (auto extension : known)
    if (small.size() > extension.size() && small.ends_with(extension))
      return name.substr(name.size() - extension.size());
  return {};
}

caf::expected<std::vector<model_request>> scan_model_store(const fs::path& store) {
  auto unreadable = [&](const std::error_code& code) {
    return caf::make_error(ec::bad_model, store.string() + " cannot be read: " + code.message());
  };
  std::error_code code;
  if (!fs::is_directory(store, code))
    return caf::make_error(ec::bad_model,
                           store.string() + " is no folder, so no model is loaded from it");
  std::set<fs::path> entries;
  for (fs::directory_iterator at{store, code}, end; !code && at != end; at.increment(code))
    entries.insert(at->path());
  if (code)
    return unreadable(code);
  bool all_models = std::all_of(entries.begin(), entries.end(), [&](const fs::path& path) {
    auto name = path.filename().string();
    return !name.starts_with('.') &&
           (fs::is_directory(path, code) || !archive_extension(name).empty());
  });
  if (!all_models)
    entries = {store};
  std::vector<model_request> out;
  for (const auto& path : entries) {
    if (fs::is_directory(path, code) && fs::is_empty(path, code))
      continue;
    model_request request;
    request.url = path.string();
    out.push_back(std::move(request));
  }
  return out;
}

caf::expected<startup> startup_models(std::string_view path, const settings& server,
                                      const environment& variables) {
  startup out;
  if (!path.empty())
    out.models.emplace_back().url = path;
  if (path.empty() || from_flag(server, "load_models") || from_flag(server, "model_store"))
    if (auto problem = add_configured(out, server))
      return problem;
  auto hub = variables.find("HF_MODEL_ID");
  if (path.empty() && hub != variables.end() && !hub->second.empty())
    out.models.emplace_back().url = hub->second;
  for (auto& request : out.models)
    request.at_startup = true;
  if (auto problem = two_of_one_name(out.models))
    return problem;
  bool asked_for_none =
      server.origin_of("load_models").from != source::fallback || server.has("model_store");
  if (out.models.empty() && !asked_for_none)
    return caf::make_error(
        ec::bad_option, std::string{"no model: name its folder, as in `troupe serve PATH`, a "
                                    "folder of models with -s, or set the variable HF_MODEL_ID"});
  return out;
}

std::string inferred_name(std::string_view url) {
  constexpr std::string_view file = "file:";
  if (lowered(url.substr(0, file.size())) == file)
    url.remove_prefix(file.size());
  std::error_code code; // the plain path still has a last part
  bool remote = url.find("://") != std::string_view::npos;
  auto name =
      last_part(remote ? std::string{url} : fs::absolute(url, code).lexically_normal().string());
  if (remote || !fs::is_directory(url, code))
    name.resize(name.size() - archive_extension(name).size());
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
      c = '_';
  return name.find_first_not_of('_') == std::string::npos ? "model" : name;
}

std::vector<assignment> arguments_of(const model_request& request) {
  constexpr auto keys = std::to_array<std::pair<std::string_view, std::string_view>>(
      {{"batch_size", "batch_size"},
       {"max_batch_delay", "max_batch_delay"},
       {"max_idle_time", "max_idle_time"},
       {"job_queue_size", "job_queue_size"},
       {"min_worker", "minWorkers"},
       {"min_worker", "gpu.minWorkers"}, // Which win over the plain ones where a file has them.
       {"min_worker", "cpu.minWorkers"},
       {"max_worker", "maxWorkers"},
       {"max_worker", "gpu.maxWorkers"},
       {"max_worker", "cpu.maxWorkers"}});
  auto given = [&](const char* name) {
    auto at = request.arguments.find(name);
    return at != request.arguments.end() && !at->second.empty() && at->second != "-1";
  };
  // DJL Serving takes the smaller of the two, and -1 for one that is absent.
  const bool lone_least = given("min_worker") && !given("max_worker");
  std::vector<assignment> out;
  auto add = [&](std::string_view name, std::string_view key, const std::string& text) {
    if (!text.empty() && text != "-1")
      out.push_back({std::string{key}, text, "argument " + std::string{name}});
  };
  for (auto [name, key] : keys)
    if (auto at = request.arguments.find(std::string{name});
        at != request.arguments.end() && !(lone_least && name == "min_worker"))
      add(name, key, at->second);
  add("engine", "engine", request.engine);
  // The only argument for which -1 means something: the CPU.
  if (!request.devices.empty())
    out.push_back(
        {"load_on_devices", request.devices == "-1" ? "cpu" : request.devices, "argument device"});
  return out;
}

} // namespace troupe::config
