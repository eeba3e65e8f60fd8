// A cuBLASLt that computes on the host, for tests on an emulated GPU: it knows what src/cuda/cublas_lt.cpp asks for and
// refuses everything else.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <map>

#include "tensor/dtype.h"

namespace {

using heartmula::DType;
constexpr int kUnsupported = 15;

struct Product {
  int compute = 0;
  std::map<int, uint64_t> attributes;
};
struct Layout {
  DType dtype;
  int64_t rows, cols, stride;
};
struct Preference {
  std::map<int, uint64_t> attributes;
};
struct Choice {
  uint64_t algorithm[8];
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};
constexpr uint64_t kAlgorithm = 0xA1607;

float load(const void* data, DType dtype, int64_t at) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[at]
                              : heartmula::bf16_to_f32(static_cast<const uint16_t*>(data)[at]);
}

int set(std::map<int, uint64_t>& attributes, int attribute, const void* value, size_t bytes) {
  if (bytes > sizeof(uint64_t)) return kUnsupported;
  std::memcpy(&attributes[attribute], value, bytes);
  return 0;
}

}  // namespace

extern "C" {
/// cudaStreamSynchronize of the test, which a module does not see.
cudaError_t (*fake_cublas_lt_wait)(cudaStream_t) = nullptr;
int fake_cublas_lt_products = 0;  // that were computed

int cublasLtCreate(void** handle) {
  *handle = new int(1);
  return 0;
}
int cublasLtDestroy(void* handle) {
  delete static_cast<int*>(handle);
  return 0;
}
size_t cublasLtGetVersion() {
  return 130205;
}

int cublasLtMatmulDescCreate(void** made, int compute, int scale) {
  if (compute != 68 || scale != 0) return kUnsupported;
  *made = new Product{compute, {}};
  return 0;
}
int cublasLtMatmulDescDestroy(void* product) {
  delete static_cast<Product*>(product);
  return 0;
}
int cublasLtMatmulDescSetAttribute(void* product, int attribute, const void* value, size_t bytes) {
  return set(static_cast<Product*>(product)->attributes, attribute, value, bytes);
}

int cublasLtMatrixLayoutCreate(void** made, int type, uint64_t rows, uint64_t cols, int64_t stride) {
  if (type != 0 && type != 14) return kUnsupported;
  *made = new Layout{type == 14 ? DType::kBF16 : DType::kF32, static_cast<int64_t>(rows), static_cast<int64_t>(cols),
                     stride};
  return 0;
}
int cublasLtMatrixLayoutDestroy(void* layout) {
  delete static_cast<Layout*>(layout);
  return 0;
}

int cublasLtMatmulPreferenceCreate(void** made) {
  *made = new Preference;
  return 0;
}
int cublasLtMatmulPreferenceDestroy(void* preference) {
  delete static_cast<Preference*>(preference);
  return 0;
}
int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  return set(static_cast<Preference*>(preference)->attributes, attribute, value, bytes);
}

int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void* out, void* preference, int most,
                                   Choice* choice, int* found) {
  // Sums are not split, and there is nothing for 264 outputs.
  const bool split = static_cast<Preference*>(preference)->attributes.at(3) != 0;
  *found = most >= 1 && !split && static_cast<Layout*>(out)->rows != 264 ? 1 : 0;
  choice->algorithm[0] = kAlgorithm;
  choice->state = 0;
  return 0;
}

// d [m, n] = alpha a^T b + beta c (+ bias [m]), by columns.
int cublasLtMatmul(void*, void* product, const void* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const void* beta, const void*, void*, void* d, void* d_layout,
                   const uint64_t* algorithm, void* workspace, size_t, cudaStream_t stream) {
  auto& attributes = static_cast<Product*>(product)->attributes;
  const auto& left = *static_cast<Layout*>(a_layout);
  const auto& right = *static_cast<Layout*>(b_layout);
  const auto& out = *static_cast<Layout*>(d_layout);
  if (attributes[3] != 1 || *algorithm != kAlgorithm || workspace == nullptr || left.rows != right.rows ||
      out.rows != left.cols || out.cols != right.cols || *static_cast<const float*>(alpha) != 1.0F ||
      *static_cast<const float*>(beta) != 0.0F) {
    return kUnsupported;
  }
  const auto* bias = attributes[7] == 4 ? reinterpret_cast<const float*>(attributes.at(8)) : nullptr;
  if (fake_cublas_lt_wait(stream) != cudaSuccess) return kUnsupported;
  ++fake_cublas_lt_products;
  for (int64_t col = 0; col < out.cols; ++col) {
    for (int64_t row = 0; row < out.rows; ++row) {
      float sum = 0;
      for (int64_t k = 0; k < left.rows; ++k) {
        sum += load(a, left.dtype, row * left.stride + k) * load(b, right.dtype, col * right.stride + k);
      }
      if (bias != nullptr) sum += bias[row];
      const int64_t at = col * out.stride + row;
      if (out.dtype == DType::kF32) {
        static_cast<float*>(d)[at] = sum;
      } else {
        static_cast<uint16_t*>(d)[at] = heartmula::f32_to_bf16(sum);
      }
    }
  }
  return 0;
}
}
