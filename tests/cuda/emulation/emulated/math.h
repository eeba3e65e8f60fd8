// The functions of CUDA's device library that kernels use, in the global namespace as there.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float __fsqrt_rn(float a) {
  return std::sqrt(a);
}
inline double __dmul_rn(double a, double b) {
  return a * b;
}
inline double __dadd_rn(double a, double b) {
  return a + b;
}
inline double __dsub_rn(double a, double b) {
  return a - b;
}
inline double __ddiv_rn(double a, double b) {
  return a / b;
}
inline double __fma_rn(double a, double b, double c) {
  return std::fma(a, b, c);
}

inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float rsqrtf(float x) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x)));
}

inline uint32_t __float_as_uint(float x) {
  return std::bit_cast<uint32_t>(x);
}
inline int32_t __float_as_int(float x) {
  return std::bit_cast<int32_t>(x);
}
inline float __uint_as_float(uint32_t x) {
  return std::bit_cast<float>(x);
}
inline float __int_as_float(int32_t x) {
  return std::bit_cast<float>(x);
}
inline int64_t __double_as_longlong(double x) {
  return std::bit_cast<int64_t>(x);
}
inline double __longlong_as_double(int64_t x) {
  return std::bit_cast<double>(x);
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t{a} * b >> 32);
}
inline int __popc(uint32_t x) {
  return std::popcount(x);
}
inline int __clz(int32_t x) {
  return std::countl_zero(static_cast<uint32_t>(x));
}
inline int __ffs(int32_t x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<uint32_t>(x)) + 1;
}

template <typename T>
T __ldg(const T* pointer) {
  return *pointer;
}

// As in CUDA, both arguments of one of these types; of two floats the one that is a number.
#define HEARTMULA_MIN_MAX(type)     \
  inline type min(type a, type b) { \
    return b < a ? b : a;           \
  }                                 \
  inline type max(type a, type b) { \
    return a < b ? b : a;           \
  }
HEARTMULA_MIN_MAX(int)
HEARTMULA_MIN_MAX(unsigned)
HEARTMULA_MIN_MAX(long)
HEARTMULA_MIN_MAX(unsigned long)
HEARTMULA_MIN_MAX(long long)
HEARTMULA_MIN_MAX(unsigned long long)
#undef HEARTMULA_MIN_MAX
inline float min(float a, float b) {
  return std::fmin(a, b);
}
inline float max(float a, float b) {
  return std::fmax(a, b);
}
inline double min(double a, double b) {
  return std::fmin(a, b);
}
inline double max(double a, double b) {
  return std::fmax(a, b);
}
