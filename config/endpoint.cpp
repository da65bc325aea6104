#include <algorithm>

#include "troupe/config/resolve.hpp"

namespace troupe::config {

namespace {

/// How strong a place is for settings of the server.
int rank(source s) {
  switch (s) {
  case source::fallback:
    return 0;
  case source::file:
    return 1;
  case source::flag:
    return 2;
  case source::variable:
    return 3;
  case source::argument: // of a model only
    return 4;
  }
  return 0;
}

/// Takes `scheme`, in small letters, off the front of `text`, where it may stand in any case.
bool take(std::string_view& text, std::string_view scheme) {
  auto same = [](char expected, char c) {
    return expected == (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  };
  if (text.size() < scheme.size() || !std::equal(scheme.begin(), scheme.end(), text.begin(), same))
    return false;
  text.remove_prefix(scheme.size());
  return true;
}

caf::expected<uint16_t> parse_port(std::string_view text) {
  auto number = parse_value(option_table[key<kind::integer>{"port"}.index()], text);
  if (!number)
    return number.error();
  return static_cast<uint16_t>(std::get<int64_t>(number->result));
}

/// Reads host[:port] with an optional slash at the end. Returns what is wrong with it, or nothing.
std::string_view parse_authority(std::string_view rest, endpoint& out) {
  if (rest.ends_with('/'))
    rest.remove_suffix(1);
  bool bracketed = rest.starts_with('[');
  auto end = bracketed ? rest.find(']') : std::min(rest.rfind(':'), rest.size());
  if (end == std::string_view::npos)
    return "lacks the closing bracket";
  out.host = bracketed ? rest.substr(1, end - 1) : rest.substr(0, end);
  rest.remove_prefix(bracketed ? end + 1 : end);
  if (out.host.empty() || out.host.find_first_of(bracketed ? "/@ " : "/:@ ") != std::string::npos)
    return "has no proper host";
  if (rest.empty())
    return {};
  if (rest.front() != ':')
    return "goes on after the closing bracket";
  auto port = parse_port(rest.substr(1));
  if (!port)
    return "has a bad port";
  out.port = *port;
  return {};
}

/// Reads the address that `name` is set to.
caf::expected<endpoint> parse_address(std::string_view name, const std::string& text,
                                      const origin& from, const settings& server) {
  auto refuse = [&](std::string_view why) {
    return caf::make_error(ec::bad_option,
                           std::string{name} + " (" + from.where + "): \"" + text + "\" " +
                               std::string{why} +
                               "; allowed: http://host[:port] or https://host[:port] with a port "
                               "from 0 to 65534, or unix:/path");
  };
  endpoint out;
  std::string_view rest = text;
  if (take(rest, "unix:")) {
    constexpr size_t longest = 107; // sockaddr_un holds no more
    if (!rest.starts_with('/') || rest.size() > longest)
      return refuse("needs an absolute path of at most 107 bytes");
    out.unix_path = rest;
    return out;
  }
  out.tls = take(rest, "https://");
  if (!out.tls && !take(rest, "http://"))
    return refuse("has another scheme");
  out.port = out.tls ? 443 : 80;
  if (auto problem = parse_authority(rest, out); !problem.empty())
    return refuse(problem);
  if (out.tls && !server.has("keystore") &&
      server.has("certificate_file") != server.has("private_key_file"))
    return refuse("needs certificate_file and private_key_file both, a keystore, or none of them");
  return out;
}

} // namespace

caf::expected<endpoint> listen_endpoint(const settings& server) {
  const auto& from = server.origin_of("inference_address");
  auto address = parse_address("inference_address", server.text("inference_address"), from, server);
  if (!address)
    return address;
  auto& out = *address;
  bool host_counts = server.has("host") && rank(server.origin_of("host").from) >= rank(from.from);
  bool port_counts = server.has("port") && rank(server.origin_of("port").from) >= rank(from.from);
  if (!out.unix_path.empty() && (host_counts || port_counts))
    out = endpoint{};
  if (host_counts)
    out.host = server.text("host");
  if (port_counts)
    out.port = static_cast<uint16_t>(server.integer("port"));
  return address;
}

caf::expected<std::optional<endpoint>> management_endpoint(const settings& server,
                                                           const endpoint& inference) {
  if (!server.has("management_address"))
    return std::optional<endpoint>{};
  auto address = parse_address("management_address", server.text("management_address"),
                               server.origin_of("management_address"), server);
  if (!address)
    return std::move(address.error());
  // Two free ports are not the same one.
  const bool free_port = address->unix_path.empty() && address->port == 0;
  if (*address == inference && !free_port)
    return std::optional<endpoint>{};
  return std::optional{std::move(*address)};
}

} // namespace troupe::config
