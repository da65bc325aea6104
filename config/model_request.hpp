#pragma once
#include <map>
#include <string>
#include <string_view>
namespace troupe::config {
struct model_request {
  std::string url, name, version, engine, devices;
  std::map<std::string, std::string> arguments;
  bool at_startup = false;
};
inline std::string inferred_name(std::string_view url) {
  auto slash = url.rfind('/');
  std::string out{slash == std::string_view::npos ? url : url.substr(slash + 1)};
  return out.substr(0, out.find('.'));
}
}
