#include "troupe/models/sources/checksum.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <vector>

#include <openssl/evp.h>

namespace troupe::models {

namespace {

class digest {
public:
  explicit digest(const EVP_MD* kind) : context_{EVP_MD_CTX_new()} {
    EVP_DigestInit_ex(context_.get(), kind, nullptr);
  }

  void add(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }

  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned int size = 0;
    EVP_DigestFinal_ex(context_.get(), bytes.data(), &size);
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (unsigned int i = 0; i < size; ++i)
      out += {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
    return out;
  }

private:
  struct release {
    void operator()(EVP_MD_CTX* c) const { EVP_MD_CTX_free(c); }
  };
  std::unique_ptr<EVP_MD_CTX, release> context_;
};

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

} // namespace

caf::expected<bool> has_checksum(const std::filesystem::path& file, std::string_view etag) {
  constexpr size_t sha1_digits = 40, sha256_digits = 64;
  if (!is_hex(etag) || (etag.size() != sha1_digits && etag.size() != sha256_digits))
    return true;
  std::error_code code;
  auto size = std::filesystem::file_size(file, code);
  std::ifstream in{file, std::ios::binary};
  if (code || !in)
    return caf::make_error(ec::bad_model, "cannot read " + file.string());
  digest sum{etag.size() == sha256_digits ? EVP_sha256() : EVP_sha1()};
  if (etag.size() == sha1_digits) {
    auto header = "blob " + std::to_string(size);
    sum.add({header.c_str(), header.size() + 1});
  }
  std::vector<char> buffer(1 << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    sum.add({buffer.data(), static_cast<size_t>(in.gcount())});
  }
  return sum.hex() == etag;
}

std::string sha256_of(std::string_view text) {
  digest sum{EVP_sha256()};
  sum.add(text);
  return sum.hex();
}

} // namespace troupe::models
