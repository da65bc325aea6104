#include "troupe/models/tokenizer/files.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace troupe::tokenizing {

namespace {

caf::error unreadable(const std::filesystem::path& path, const std::string& why) {
  return caf::make_error(ec::bad_model, "cannot read " + path.string() + ": " + why);
}

} // namespace

caf::expected<std::string> read_text(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code failed;
  if (std::filesystem::is_directory(path, failed))
    return unreadable(path, "it is a folder");
  std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen(path.c_str(), "rb"), &std::fclose};
  if (!file)
    return unreadable(path, std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  while (auto n = std::fread(buffer, 1, sizeof buffer, file.get())) {
    text.append(buffer, n);
    if (text.size() > max_bytes)
      return unreadable(path, "it exceeds " + std::to_string(max_bytes >> 20) + " MiB");
  }
  if (std::ferror(file.get()))
    return unreadable(path, std::strerror(errno));
  return text;
}

caf::expected<std::string> read_text_if_there(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code failed;
  if (!std::filesystem::exists(path, failed))
    return std::string{};
  return read_text(path, max_bytes);
}

} // namespace troupe::tokenizing
