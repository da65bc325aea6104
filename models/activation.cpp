#include "troupe/models/activation.hpp"

namespace troupe::models {

namespace {
class host_storage final : public activation::storage {
public:
  explicit host_storage(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  const std::byte* host_bytes() override { return bytes_.data(); }
  void* native() override { return nullptr; }

private:
  std::vector<std::byte> bytes_;
};
} // namespace

size_t size_of(dtype t) {
  switch (t) {
  case dtype::fp32:
  case dtype::int32:
    return 4;
  case dtype::bf16:
  case dtype::fp16:
    return 2;
  case dtype::int64:
    return 8;
  case dtype::uint8:
    return 1;
  }
  return 0;
}

activation activation::from_bytes(dtype type, int64_t rows, int64_t columns,
                                  std::vector<std::byte> bytes) {
  return activation{type, rows, columns, std::make_shared<host_storage>(std::move(bytes))};
}

} // namespace troupe::models
