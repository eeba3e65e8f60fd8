// How the two sides of a product come into shared memory, a step of k at a time.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/gemm_tile.h"

namespace heartmula::cuda {

/// What one thread copies of each step: its 16-byte chunk of every kRowsAtOnce-th row of either side. T is a tile: the
/// type Value, kStep values of k, kRows of the left side and behind them kColumns of W, kPitch bytes apart, and
/// place_of(row, chunk), which repeats every 8 rows. Without kAligned the left side is gathered value by value.
template <typename T, bool kAligned>
class GemmLoader {
 public:
  __device__ GemmLoader(const GemmProduct& product, const GemmTileAt& tile)
      : p_(product),
        place_(T::place_of(thread() / kChunks, thread() % kChunks)),
        left_row_(tile.row + thread() / kChunks),
        right_row_(tile.column + thread() / kChunks),
        k_(thread() % kChunks * kChunk),
        channel_(k_ % p_.channels),
        x_(static_cast<const Value*>(p_.x) + left_row_ * p_.x_stride + k_ / p_.channels * p_.tap_step + channel_),
        w_(static_cast<const Value*>(p_.w) + right_row_ * p_.w_stride + k_) {}

  /// Starts the copies of the next step.
  __device__ void next(unsigned char* stage) {
    unsigned char* to = stage + place_;
    HEARTMULA_UNROLL
    for (int i = 0; i < T::kRows / kRowsAtOnce; ++i) {
      unsigned char* place = to + i * kRowsAtOnce * T::kPitch;
      if constexpr (kAligned) {
        const bool inside = left_row_ + i * kRowsAtOnce < p_.rows && k_ < p_.k;
        copy_async(place, inside ? x_ + i * kRowsAtOnce * p_.x_stride : p_.x, inside ? 16 : 0);
      } else {
        gather(reinterpret_cast<Value*>(place), left_row_ + i * kRowsAtOnce);
      }
    }
    to += T::kRows * T::kPitch;
    HEARTMULA_UNROLL
    for (int i = 0; i < T::kColumns / kRowsAtOnce; ++i) {
      const bool inside = right_row_ + i * kRowsAtOnce < p_.n && k_ < p_.k;
      copy_async(to + i * kRowsAtOnce * T::kPitch, inside ? w_ + i * kRowsAtOnce * p_.w_stride : p_.w, inside ? 16 : 0);
    }
    k_ += T::kStep;
    w_ += T::kStep;
    x_ += T::kStep;
    for (channel_ += T::kStep; channel_ >= p_.channels; channel_ -= p_.channels) x_ += p_.tap_step - p_.channels;
  }

 private:
  using Value = typename T::Value;
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(Value));
  static constexpr int kChunks = T::kStep / kChunk;
  static constexpr int kRowsAtOnce = T::kThreads / kChunks;
  static_assert(kRowsAtOnce % 8 == 0 && T::kRows % kRowsAtOnce == 0 && T::kColumns % kRowsAtOnce == 0);

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  __device__ void gather(Value* to, int row) const {
    const Value* x = static_cast<const Value*>(p_.x) + row * p_.x_stride;
    for (int i = 0; i < kChunk; ++i) {
      const int tap = (k_ + i) / p_.channels;
      const bool inside = row < p_.rows && k_ + i < p_.k;
      to[i] = inside ? x[tap * p_.tap_step + (k_ + i - tap * p_.channels)] : Value{0};
    }
  }

  const GemmProduct& p_;
  int place_;
  int left_row_;
  int right_row_;
  int k_;
  int channel_;     // of k_
  const Value* x_;  // at k_ of the first row
  const Value* w_;
};

}  // namespace heartmula::cuda
