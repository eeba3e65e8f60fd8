#include "ops/table.h"

namespace heartmula {

void add_row(std::span<float> sum, const Table& table, int32_t id, std::span<float> entry) {
  if (id < 0) return;
  convert_to_f32(entry.data(), table.rows.data, table.rows.dtype, id * table.rows.stride,
                 static_cast<int64_t>(entry.size()));
  if (table.round_to == DType::kBF16) {
    for (float& value : entry) value = bf16_to_f32(f32_to_bf16(value));
  }
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += entry[i];
}

}  // namespace heartmula
