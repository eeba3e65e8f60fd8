// What kernels use of a GPU beyond plain C++: one name for each instruction, so that tests/cuda/emulation can give the
// same names to a host compiler. Fragments and their lanes are those of the PTX ISA, section "Matrix instructions".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace heartmula::cuda {

constexpr int kWarp = 32;

/// Before a loop whose body must not be a loop: register arrays are indexed by constants only.
#define HEARTMULA_UNROLL _Pragma("unroll")
/// Before a loop whose turns would need too many registers if they overlapped.
#define HEARTMULA_KEEP_LOOP _Pragma("unroll 1")
/// A function that stays one, so that the code around it is short.
#define HEARTMULA_APART __noinline__

/// The shared memory that the launch asked for, at a multiple of 128 bytes.
__device__ inline unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char heartmula_shared[];
  return heartmula_shared;
}

/// All threads of the block.
__device__ inline void sync_block() {
  __syncthreads();
}
/// `count` threads (a multiple of 32) of the block that name the same barrier, 1 to 15.
__device__ inline void sync_some(int barrier, int count) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(count) : "memory");
}
/// Threads of the block whose `predicate` holds; all threads call it.
__device__ inline int count_block(bool predicate) {
  return __syncthreads_count(predicate ? 1 : 0);
}

// Programmatic dependent launch: a kernel may begin while the one before it in the stream still works. Every kernel
// calls wait_for_previous before it reads or writes what another kernel touches, also where it returns early.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The next kernel may begin.
__device__ inline void start_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// All lanes of the warp.
__device__ inline void sync_warp() {
  __syncwarp();
}
/// The value of lane ^ mask.
template <typename T>
__device__ inline T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
template <typename T>
__device__ inline T shuffle(T value, int lane) {
  return __shfl_sync(0xFFFFFFFFu, value, lane);
}

/// d += a b, m16n8k16: a [16, 16] and b [16, 8] bf16, d [16, 8] f32.
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Four 8x8 matrices of 16-bit values; lane i gives the address (16 bytes aligned) of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// The same, each matrix transposed.
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// 16 bytes from global to shared memory, both aligned; `bytes` of them (0 to 16) are read, the rest becomes zero.
__device__ inline void copy_async(void* shared, const void* global, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Until at most `Left` of this thread's groups are under way.
template <int Left>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

// Bulk copies and the barriers in shared memory that count their bytes: compute capability 9.0 and newer.
using Mbarrier = uint64_t;
__device__ inline void init_mbarrier(Mbarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// Makes initialised barriers visible to bulk copies; before the sync_block that follows their init.
__device__ inline void fence_mbarriers() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/// Arrives, and says that `bytes` will come by copies.
__device__ inline void expect_bytes(Mbarrier* barrier, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
#endif
}
__device__ inline void arrive(Mbarrier* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
/// Until the phase of this parity is over.
__device__ inline void wait_mbarrier(Mbarrier* barrier, int parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::
          "r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
#endif
}
/// `bytes` (a multiple of 16) that are read once and not kept in the cache; `barrier` counts them.
__device__ inline void copy_bulk(void* shared, const void* global, int bytes, Mbarrier* barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .b64 policy;\ncreatepolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], "
      "policy;\n}" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#endif
}

/// Reads that do not meet a stale line of the first cache: what another block of this kernel wrote.
__device__ inline float load_fresh(const float* pointer) {
  return __ldcg(pointer);
}
__device__ inline float4 load_fresh(const float4* pointer) {
  return __ldcg(pointer);
}
__device__ inline int32_t add_and_get(int32_t* counter, int32_t value) {
  return atomicAdd(counter, value);
}
/// What this thread wrote is seen by other blocks before what it writes next.
__device__ inline void fence_device() {
  __threadfence();
}

/// What this thread wrote is seen by the host before what it writes next.
__device__ inline void fence_system() {
  __threadfence_system();
}
/// To memory that the host polls.
__device__ inline void store_for_host(int32_t* pointer, int32_t value) {
  *static_cast<volatile int32_t*>(pointer) = value;
}

/// Streaming reads of weights: 16 bytes, not kept in the first cache.
__device__ inline uint4 load_streaming(const void* pointer) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(pointer));
  return value;
}

/// The 128 bytes around `pointer` come into the second cache.
__device__ inline void prefetch(const void* pointer) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(pointer));
}

// ---- numbers
/// 2^x within 2 ulp; zero below 2^-126.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// To nearest even; NaN stays one.
__device__ inline uint16_t to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
__device__ inline float from_bf16(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}
/// Two of them in a word, the first in its lower half.
__device__ inline uint32_t to_bf16_pair(float first, float second) {
#if __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return static_cast<uint32_t>(to_bf16(first)) | static_cast<uint32_t>(to_bf16(second)) << 16;
#endif
}
__device__ inline float low_bf16(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ inline float high_bf16(uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000u);
}

}  // namespace heartmula::cuda
