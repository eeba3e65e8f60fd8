// The names of src/cuda/kernels/device.h for a host compiler: same meaning, one thread at a time.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulated/block.h"
#include "emulated/copies.h"
#include "emulated/warp.h"

namespace heartmula::cuda {

constexpr int kWarp = 32;

#define HEARTMULA_UNROLL
#define HEARTMULA_KEEP_LOOP
#define HEARTMULA_APART

inline unsigned char* dynamic_shared() {
  return emulated::current_block->shared();
}

inline void sync_block() {
  emulated::current_block->meet(0, 0, 0, "sync_block");
}
inline void sync_some(int barrier, int count) {
  if (barrier < 1 || count <= 0) emulated::current_block->die("sync_some: barriers are 1 to 15, counts above 0");
  emulated::current_block->meet(barrier, count, 0, "sync_some");
}
inline int count_block(bool predicate) {
  return emulated::current_block->meet(0, 0, predicate ? 1 : 0, "count_block");
}

inline void wait_for_previous() {
  emulated::current_block->previous_awaited();
}
inline void start_next() {}

inline void sync_warp() {
  emulated::shuffle(0, 0, "sync_warp");
}
template <typename T>
T shuffle_xor(T value, int mask) {
  const int lane = emulated::current_thread->number % kWarp;
  return emulated::shuffle(value, lane ^ mask, "shuffle_xor");
}
template <typename T>
T shuffle(T value, int lane) {
  return emulated::shuffle(value, lane & (kWarp - 1), "shuffle");
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::mma_bf16(d, a, b);
}
inline void load_matrices(uint32_t (&r)[4], const void* row) {
  emulated::load_matrices(r, row, false);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  emulated::load_matrices(r, row, true);
}

inline void copy_async(void* shared, const void* global, int bytes = 16) {
  emulated::current_thread->copies.add({shared, global, bytes, 16 - bytes});
}
inline void commit_copies() {
  emulated::current_thread->copies.commit();
}
template <int Left>
void wait_copies() {
  emulated::current_thread->copies.wait(Left);
}

using Mbarrier = uint64_t;
inline void init_mbarrier(Mbarrier* barrier, int arrivals) {
  emulated::init_mbarrier(barrier, arrivals);
}
inline void fence_mbarriers() {}
inline void expect_bytes(Mbarrier* barrier, int bytes) {
  emulated::update_mbarrier(barrier, 1, bytes);
}
inline void arrive(Mbarrier* barrier) {
  emulated::update_mbarrier(barrier, 1, 0);
}
inline void wait_mbarrier(Mbarrier* barrier, int parity) {
  emulated::wait_mbarrier(barrier, parity);
}
inline void copy_bulk(void* shared, const void* global, int bytes, Mbarrier* barrier) {
  emulated::current_block->bulk_copies().add({shared, global, bytes, 0}, barrier);
}

inline float load_fresh(const float* pointer) {
  return *pointer;
}
inline float4 load_fresh(const float4* pointer) {
  return *pointer;
}
/// The value before, as atomicAdd gives it.
inline int32_t add_and_get(int32_t* counter, int32_t value) {
  return std::atomic_ref<int32_t>(*counter).fetch_add(value);
}
inline void fence_device() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

inline void fence_system() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
inline void store_for_host(int32_t* pointer, int32_t value) {
  std::atomic_ref<int32_t>(*pointer).store(value);
}

inline uint4 load_streaming(const void* pointer) {
  return *static_cast<const uint4*>(pointer);
}

inline void prefetch(const void*) {}

// ---- numbers
inline float exp2_fast(float x) {
  return x < -126.0F ? 0.0F : std::exp2(x);
}
inline uint16_t to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}
inline float from_bf16(uint16_t bits) {
  return __uint_as_float(uint32_t{bits} << 16);
}
inline uint32_t to_bf16_pair(float first, float second) {
  return uint32_t{to_bf16(first)} | uint32_t{to_bf16(second)} << 16;
}
inline float low_bf16(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
inline float high_bf16(uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}

}  // namespace heartmula::cuda
