#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace troupe::test {

/// A folder of its own for one test, gone at its end.
class temporary_folder {
public:
  temporary_folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "troupe-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("cannot make a temporary folder");
    path_ = pattern;
  }
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;

  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream{path_ / name, std::ios::binary} << bytes;
  }
  std::string read(const std::string& name) const {
    std::ostringstream all;
    all << std::ifstream{path_ / name, std::ios::binary}.rdbuf();
    return all.str();
  }
  /// Copies a folder's files into this one, links followed.
  void copy_from(const std::string& folder) const {
    for (const auto& entry : std::filesystem::directory_iterator{folder})
      std::filesystem::copy_file(entry.path(), path_ / entry.path().filename());
  }
  /// Replaces the first occurrence in a text file; throws when there is none.
  void replace(const std::string& name, const std::string& from, const std::string& to) const {
    auto text = read(name);
    const auto place = text.find(from);
    if (place == std::string::npos)
      throw std::runtime_error("'" + from + "' is not in " + name);
    write(name, text.replace(place, from.size(), to));
  }

private:
  std::filesystem::path path_;
};

} // namespace troupe::test
