// How the language model's matrices lie on a GPU: layout `cuda-mma-v1`. Made on the host, so that it is proven without
// a GPU.
//
// K is cut into 8 slices of S = 32 ceil(K / 256) inputs, zero-padded: their partial sums are added from left to right,
// whatever kernel multiplies. Outputs stand in units (8 of them in bf16, 32 in f32); a gated matrix has rows gate 0,
// up 0, gate 1, up 1, ...
//   bf16  [units][stages of 128 inputs][8 slices][steps of 32][32 lanes][8]: lane 4 g + t holds output g, inputs 8 t to
//         8 t + 7 of the step, which are two fragments of mma.m16n8k16; the last stage of a slice may be shorter
//   f32   [units][8 slices][S / 4][32 outputs][4]
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"
#include "tensor/packed.h"

namespace heartmula::cuda {

constexpr int64_t kSlices = 8;
constexpr int64_t kStep = 32;    // inputs of a bf16 unit that a warp loads at once
constexpr int64_t kStage = 128;  // inputs of each slice that are copied at once

/// Host memory through which weights pass on their way to a device.
constexpr int64_t kPackBuffers = 2;
constexpr int64_t kPackBufferBytes = int64_t{32} << 20;

struct FewLayout {
  DType dtype = DType::kBF16;
  int64_t n = 0;  // outputs, those of gate and up both
  int64_t k = 0;

  int64_t unit() const { return dtype == DType::kBF16 ? 8 : 32; }
  /// Pairs of bf16 units are the 16 outputs of the other operand.
  int64_t units() const;
  int64_t slice() const { return kStep * ((k + kStep * kSlices - 1) / (kStep * kSlices)); }
  int64_t unit_elements() const { return unit() * kSlices * slice(); }
  int64_t bytes() const { return units() * unit_elements() * static_cast<int64_t>(dtype_size(dtype)); }
  /// Where input `k` of an output of the unit lies.
  int64_t element(int64_t output, int64_t input) const;
  /// Writes the rows [unit() , k] of unit `index` (missing ones null) into its place of `unit_memory`
  /// [unit_elements()], which is zeroed first.
  void pack_unit(std::span<std::byte> unit_memory, std::span<const float* const> rows) const;
};

/// As the rest of the program knows it, for sizes: outputs and inputs are padded to its panels and groups.
PackedLayout few_layout(DType dtype);
/// The codec's: plain rows, padded to 16 bytes.
PackedLayout many_layout(DType dtype);

}  // namespace heartmula::cuda
