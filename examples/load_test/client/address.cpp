#include "troupe/examples/load_test/client/address.hpp"

#include <charconv>

#include "troupe/config/error.hpp"

namespace troupe::load_test {

namespace {

constexpr uint16_t http_port = 80, https_port = 443;

caf::error bad(std::string_view url, const std::string& why) {
  return caf::make_error(ec::bad_option, "URL \"" + std::string{url} + "\": " + why +
                                             "; allowed: http://HOST:PORT, https://HOST:PORT, "
                                             "HOST:PORT, unix:/PATH, each with a path behind it");
}

} // namespace

std::string address::authority() const {
  if (!unix_path.empty())
    return "localhost";
  auto name = host.find(':') == std::string::npos ? host : '[' + host + ']';
  return port == (tls ? https_port : http_port) ? name : name + ':' + std::to_string(port);
}

caf::expected<address> parse_address(std::string_view url) {
  address out;
  auto rest = url;
  if (rest.find_first_of(" \t\r\n") != std::string_view::npos)
    return bad(url, "it holds a space");
  if (rest.starts_with("unix:")) {
    rest.remove_prefix(5);
    if (rest.starts_with("//"))
      rest.remove_prefix(2);
    if (rest.empty() || rest.front() != '/')
      return bad(url, "the path of the socket must begin with /");
    out.unix_path = rest;
    return out;
  }
  if (auto scheme = rest.find("://"); scheme != std::string_view::npos) {
    auto name = rest.substr(0, scheme);
    if (name != "http" && name != "https")
      return bad(url, "the scheme \"" + std::string{name} + "\" is unknown");
    out.tls = name == "https";
    rest.remove_prefix(scheme + 3);
  }
  auto slash = rest.find('/');
  if (slash != std::string_view::npos) {
    out.path = rest.substr(slash);
    rest = rest.substr(0, slash);
    while (!out.path.empty() && out.path.back() == '/')
      out.path.pop_back();
  }
  out.port = out.tls ? https_port : http_port;
  std::string_view port;
  if (rest.starts_with('[')) {
    auto end = rest.find(']');
    if (end == std::string_view::npos)
      return bad(url, "an IPv6 address ends with ]");
    out.host = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    if (!rest.empty() && rest.front() != ':')
      return bad(url, "after ] there may only be a port");
    port = rest.empty() ? rest : rest.substr(1);
    if (!rest.empty() && port.empty())
      return bad(url, "the port is missing");
  } else if (auto colon = rest.rfind(':'); colon != std::string_view::npos) {
    out.host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    if (port.empty())
      return bad(url, "the port is missing");
  } else {
    out.host = rest;
  }
  if (out.host.empty())
    return bad(url, "it names no host");
  if (!port.empty()) {
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (error != std::errc{} || end != port.data() + port.size() || out.port == 0)
      return bad(url, "\"" + std::string{port} + "\" is no port (1 to 65535)");
  }
  return out;
}

std::string path_below(const address& a, std::string_view wanted) {
  if (a.path.ends_with(wanted))
    return a.path;
  for (auto end = wanted.rfind('/'); end != std::string_view::npos && end > 0;
       end = wanted.rfind('/', end - 1))
    if (a.path.ends_with(wanted.substr(0, end)))
      return a.path + std::string{wanted.substr(end)};
  return a.path + std::string{wanted};
}

} // namespace troupe::load_test
