// The table of one instruction set's kernels.
#include "cpu/kernels/tile.h"

namespace heartmula::cpu::HEARTMULA_KERNELS {

const Kernels& kernels() {
  static constexpr Kernels table = {
      .panel_width = kPanel,
      .bf16_group = WeightsPacked::kActivations,
      .tile_rows = WeightsPacked::kRows,
      .block_rows = kBlockRows,
      .block_columns = kBlockColumns,
      .product_f32 = product_f32,
      .product_bf16 = product_bf16,
      .product_scratch_bytes = product_scratch_bytes,
      .product_staged_bytes = product_staged_bytes,
      .product_stage = product_stage,
      .append = append,
      .attend = attend,
      .attend_blocks = attend_blocks,
      .attend_join = attend_join,
      .attend_part_floats = attend_part_floats,
      .attend_scratch_bytes = attend_scratch_bytes,
      .rms_norm = rms_norm,
      .layer_norm = layer_norm,
      .copy = copy,
      .combine = combine,
      .guide = guide,
      .silu = silu,
      .round_levels = round_levels,
      .multiply_add_f32 = multiply_add_f32,
      .multiply_add_bf16 = multiply_add_bf16,
      .read = read,
  };
  return table;
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
