#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "troupe/models/cuda/kernels/kernels.hpp"

/// What the kernel tests share. They are programs without a test library, so that they run on a
/// bare machine with a GPU.
namespace troupe::test {

using namespace troupe::models::cuda;

/// Ends the program when a CUDA call failed: what follows would only repeat it.
inline void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess)
    return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
  std::exit(2);
}
#define TROUPE_MUST(call) ::troupe::test::must((call), #call)

/// Memory on the device with a known filling.
class device_memory {
public:
  explicit device_memory(size_t bytes, int filling = 0xff) : bytes_(bytes) {
    TROUPE_MUST(cudaMalloc(&data_, bytes == 0 ? 16 : bytes));
    TROUPE_MUST(cudaMemset(data_, filling, bytes == 0 ? 16 : bytes));
    // The stream of the kernels waits for no other.
    TROUPE_MUST(cudaDeviceSynchronize());
  }
  ~device_memory() { cudaFree(data_); }
  device_memory(const device_memory&) = delete;
  device_memory& operator=(const device_memory&) = delete;
  void* data() const { return data_; }
  size_t size() const { return bytes_; }

private:
  void* data_ = nullptr;
  size_t bytes_;
};

/// A vector that the device can see; `read` fetches what kernels made of it.
template <class T>
class device_vector {
public:
  explicit device_vector(const std::vector<T>& values)
      : count_(values.size()), memory_(values.size() * sizeof(T)) {
    TROUPE_MUST(
        cudaMemcpy(memory_.data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
    TROUPE_MUST(cudaDeviceSynchronize());
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    TROUPE_MUST(
        cudaMemcpy(values.data(), memory_.data(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

private:
  size_t count_;
  device_memory memory_;
};

/// What an element type makes of a number.
inline double rounded(element type, double x) {
  switch (type) {
  case element::bf16:
    return static_cast<double>(__bfloat162float(__float2bfloat16(static_cast<float>(x))));
  case element::fp16:
    return static_cast<double>(__half2float(__float2half(static_cast<float>(x))));
  case element::fp32:
    break;
  }
  return static_cast<double>(static_cast<float>(x));
}

inline void put(element type, void* to, size_t index, double x) {
  switch (type) {
  case element::bf16:
    static_cast<__nv_bfloat16*>(to)[index] = __float2bfloat16(static_cast<float>(x));
    return;
  case element::fp16:
    static_cast<__half*>(to)[index] = __float2half(static_cast<float>(x));
    return;
  case element::fp32:
    static_cast<float*>(to)[index] = static_cast<float>(x);
  }
}

inline double get(element type, const void* from, size_t index) {
  switch (type) {
  case element::bf16:
    return static_cast<double>(__bfloat162float(static_cast<const __nv_bfloat16*>(from)[index]));
  case element::fp16:
    return static_cast<double>(__half2float(static_cast<const __half*>(from)[index]));
  case element::fp32:
    break;
  }
  return static_cast<double>(static_cast<const float*>(from)[index]);
}

/// Rounding of one stored element, relative.
inline double precision_of(element type) {
  return type == element::bf16 ? 4e-3 : type == element::fp16 ? 6e-4 : 2e-6;
}

/// A matrix on both sides. Padding between rows is NaN on the device, and must stay.
class tensor {
public:
  tensor(element type, uint32_t rows, uint32_t columns, uint32_t padding = 0)
      : values(size_t{rows} * columns, std::nan("")), type_(type), rows_(rows), columns_(columns),
        stride_(columns + padding), memory_(rows * stride_ * size_of(type)) {}

  double& at(size_t row, size_t column) { return values[row * columns_ + column]; }
  double at(size_t row, size_t column) const { return values[row * columns_ + column]; }

  tensor& randomize(std::mt19937& random, double spread = 1) {
    std::uniform_real_distribution<double> draw(-spread, spread);
    for (auto& v : values)
      v = rounded(type_, draw(random));
    return upload();
  }

  tensor& upload() {
    std::vector<unsigned char> bytes(memory_.size(), 0xff);
    for (size_t r = 0; r < rows_; ++r)
      for (size_t c = 0; c < columns_; ++c)
        put(type_, bytes.data(), r * stride_ + c, at(r, c));
    TROUPE_MUST(cudaMemcpy(memory_.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    TROUPE_MUST(cudaDeviceSynchronize());
    return *this;
  }

  /// The device's values; false when padding was written.
  bool download() {
    bytes.resize(memory_.size());
    TROUPE_MUST(cudaMemcpy(bytes.data(), memory_.data(), bytes.size(), cudaMemcpyDeviceToHost));
    bool untouched = true;
    for (size_t r = 0; r < rows_; ++r) {
      for (size_t c = 0; c < columns_; ++c)
        at(r, c) = get(type_, bytes.data(), r * stride_ + c);
      for (size_t b = (r * stride_ + columns_) * size_of(type_);
           b < (r + 1) * stride_ * size_of(type_); ++b)
        untouched = untouched && bytes[b] == 0xff;
    }
    return untouched;
  }

  matrix view() const { return {memory_.data(), type_, rows_, columns_, stride_}; }
  matrix view(uint32_t rows) const { return {memory_.data(), type_, rows, columns_, stride_}; }
  element type() const { return type_; }
  uint32_t rows() const { return rows_; }
  uint32_t columns() const { return columns_; }

  std::vector<double> values;       ///< [rows, columns]
  std::vector<unsigned char> bytes; ///< What `download` saw, padding included.

private:
  element type_;
  uint32_t rows_, columns_;
  size_t stride_;
  device_memory memory_;
};

inline device_vector<float> floats_of(const std::vector<double>& values) {
  return device_vector<float>(std::vector<float>(values.begin(), values.end()));
}

inline std::vector<double> random_floats(std::mt19937& random, size_t count, double low,
                                         double high) {
  std::uniform_real_distribution<float> draw(static_cast<float>(low), static_cast<float>(high));
  std::vector<double> values(count);
  for (auto& v : values)
    v = static_cast<double>(draw(random));
  return values;
}

/// The program's tests and what became of them.
class report {
public:
  explicit report(bool small) : small_(small) {}
  /// Sizes that suit a memory checker.
  bool small() const { return small_; }
  void expect(bool good, const std::string& what) {
    ++checks_;
    if (good)
      return;
    ++failures_;
    std::printf("FAILED %s: %s\n", section_.c_str(), what.c_str());
  }
  /// || got - want || / || want || at most `tolerance`; NaN never passes.
  void close(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
             const std::string& what) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += (got[i] - want[i]) * (got[i] - want[i]);
      norm += want[i] * want[i];
    }
    const double relative = std::sqrt(error) / std::sqrt(std::max(norm, 1e-30));
    worst_ = std::max(worst_, relative / tolerance);
    char text[64];
    std::snprintf(text, sizeof text, " (off by %.3g, allowed %.3g)", relative, tolerance);
    expect(got.size() == want.size() && relative <= tolerance, what + text);
  }
  void begin(const std::string& section) {
    section_ = section;
    checks_ = failures_ = 0;
    worst_ = 0;
  }
  void end() {
    std::printf("%-34s %5d checks, %d failed, worst error %.0f %% of the allowed\n",
                section_.c_str(), checks_, failures_, worst_ * 100);
    std::fflush(stdout);
    all_failures_ += failures_;
  }
  int failures() const { return all_failures_; }

private:
  bool small_;
  std::string section_;
  int checks_ = 0, failures_ = 0, all_failures_ = 0;
  double worst_ = 0;
};

/// What a test runs with.
struct bench_place {
  launcher on;
  void wait() const { TROUPE_MUST(cudaStreamSynchronize(on.stream)); }
};

void test_products(report& r, const bench_place& p);
void test_quantized(report& r, const bench_place& p);
void test_gemm_library(report& r, const bench_place& p);
void test_norms(report& r, const bench_place& p);
void test_elementwise(report& r, const bench_place& p);
void test_loading(report& r, const bench_place& p);
void test_rotation(report& r, const bench_place& p);
void test_decode_attention(report& r, const bench_place& p);
void test_prefill_attention(report& r, const bench_place& p);
void test_sampling(report& r, const bench_place& p);

inline double reference_activation(activation f, double x) {
  switch (f) {
  case activation::silu:
    return x / (1 + std::exp(-x));
  case activation::gelu:
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  case activation::gelu_tanh:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case activation::relu:
    return x > 0 ? x : 0;
  case activation::none:
    break;
  }
  return x;
}

/// Normalises [first, first + count) of `values` in place.
inline void reference_norm(norm_function f, double epsilon, const std::vector<double>& weight,
                           const std::vector<double>& bias, double* values, size_t count) {
  double mean = 0, square = 0;
  if (f == norm_function::layer) {
    for (size_t i = 0; i < count; ++i)
      mean += values[i];
    mean /= static_cast<double>(count);
  }
  for (size_t i = 0; i < count; ++i)
    square += (values[i] - mean) * (values[i] - mean);
  const double inverse = 1 / std::sqrt(square / static_cast<double>(count) + epsilon);
  for (size_t i = 0; i < count; ++i)
    values[i] = (values[i] - mean) * inverse * weight[i] + (bias.empty() ? 0.0 : bias[i]);
}

} // namespace troupe::test
