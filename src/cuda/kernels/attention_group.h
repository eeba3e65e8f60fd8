// What a thread of attention reads of keys and values at once.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"

namespace heartmula::cuda {

constexpr int kGroup = 8;  // elements

/// Groups of a head, the last of which may be short.
__host__ __device__ constexpr int groups_of(int head_dim) {
  return (head_dim + kGroup - 1) / kGroup;
}
/// A group of floats in shared memory, at a multiple of 16 bytes.
__device__ inline void load_group(float (&v)[kGroup], const float* place) {
  const float4 a = reinterpret_cast<const float4*>(place)[0];
  const float4 b = reinterpret_cast<const float4*>(place)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ inline void store_group(float* place, const float (&v)[kGroup]) {
  reinterpret_cast<float4*>(place)[0] = {v[0], v[1], v[2], v[3]};
  reinterpret_cast<float4*>(place)[1] = {v[4], v[5], v[6], v[7]};
}

/// Elements [8 group, 8 group + 8) of a row of a cache. kEven: rows are whole groups, 16 bytes at a time; else what is
/// beyond `head_dim` is zero.
template <bool kBf16, bool kEven>
struct Group {
  uint4 words[kBf16 ? 1 : 2];

  __device__ void load(const void* rows, int row, int group, int head_dim) {
    const int first = row * head_dim + group * kGroup;
    if (kEven && kBf16) {
      words[0] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(rows) + first);
      return;
    }
    if (kEven) {
      const auto* values = reinterpret_cast<const uint4*>(static_cast<const float*>(rows) + first);
      words[0] = values[0];
      words[kBf16 ? 0 : 1] = values[1];
      return;
    }
    uint32_t w[kGroup] = {};
    HEARTMULA_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (group * kGroup + i >= head_dim) break;
      if (kBf16) {
        w[i / 2] |= static_cast<uint32_t>(static_cast<const uint16_t*>(rows)[first + i]) << (16 * (i % 2));
      } else {
        w[i] = static_cast<const uint32_t*>(rows)[first + i];
      }
    }
    words[0] = {w[0], w[1], w[2], w[3]};
    if (!kBf16) words[kBf16 ? 0 : 1] = {w[4], w[5], w[6], w[7]};
  }
  __device__ void clear() {
    for (uint4& word : words) word = {0, 0, 0, 0};
  }
  __device__ void get(float (&v)[kGroup]) const {
    if (kBf16) {
      unpack_bf16(v, words[0]);
    } else {
      const uint4& a = words[0];
      const uint4& b = words[kBf16 ? 0 : 1];
      v[0] = __uint_as_float(a.x), v[1] = __uint_as_float(a.y), v[2] = __uint_as_float(a.z),
      v[3] = __uint_as_float(a.w);
      v[4] = __uint_as_float(b.x), v[5] = __uint_as_float(b.y), v[6] = __uint_as_float(b.z),
      v[7] = __uint_as_float(b.w);
    }
  }
};

}  // namespace heartmula::cuda
