#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "troupe/config/resolve.hpp"

namespace troupe::test {

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline bool warned(const std::vector<std::string>& warnings, const std::string& part) {
  for (auto& w : warnings)
    if (has(w, part))
      return true;
  return false;
}

inline bool warned(const config::resolved& r, const std::string& part) {
  return warned(r.warnings, part);
}

/// A folder of its own for every test, with the files written into it.
struct settings_fixture {
  std::filesystem::path folder;
  config::sources from;

  settings_fixture() {
    static int count = 0;
    folder = std::filesystem::temp_directory_path() /
             ("troupe-config-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(folder / "conf");
    from.variables["MODEL_SERVER_HOME"] = folder.string();
  }

  ~settings_fixture() { std::filesystem::remove_all(folder); }

  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((folder / name).parent_path());
    std::ofstream{folder / name} << text;
  }

  void flag(const std::string& key, const std::string& text) {
    from.flags.push_back({key, text, "flag --" + key});
  }

  config::resolved server() {
    auto result = resolve_server(from);
    if (!result)
      FAIL(text_of(result.error()));
    return *result;
  }

  config::resolved model() {
    auto result = resolve_model(from, server().values, folder);
    if (!result)
      FAIL(text_of(result.error()));
    return *result;
  }

  std::string server_error() {
    auto result = resolve_server(from);
    REQUIRE(!result);
    CHECK(code_of(result.error()) == ec::bad_option);
    return text_of(result.error());
  }

  std::string model_error() {
    auto result = resolve_model(from, config::settings{}, folder);
    REQUIRE(!result);
    CHECK(code_of(result.error()) == ec::bad_option);
    return text_of(result.error());
  }
};

} // namespace troupe::test
