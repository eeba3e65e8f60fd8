#include "tensor/low_rank.h"

#include <algorithm>
#include <array>

namespace heartmula {
namespace {

constexpr int64_t kTile = 512;  // columns whose sums stay in the first cache

std::vector<double> values_of(const StoredTensor& tensor, double scale) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  convert_to_f32(values.data(), tensor.data.data(), tensor.dtype, 0, tensor.elements());
  std::vector<double> scaled(values.begin(), values.end());
  for (double& value : scaled) value *= scale;
  return scaled;
}

}  // namespace

void RowChanges::read_factors() const {
  for (const LowRank& change : changes_) {
    factors_.push_back({values_of(change.up, change.scale), values_of(change.down, 1)});
  }
}

void RowChanges::add_to(int64_t output, float* row, int64_t k) const {
  std::call_once(read_, [this] { read_factors(); });
  for (int64_t first = 0; first < k; first += kTile) {
    const int64_t count = std::min(kTile, k - first);
    std::array<double, kTile> sum{};
    for (const auto& [up, down] : factors_) {
      const int64_t rank = static_cast<int64_t>(down.size()) / k;
      for (int64_t r = 0; r < rank; ++r) {
        const double factor = up[static_cast<size_t>(output * rank + r)];
        const double* values = down.data() + r * k + first;
        for (int64_t c = 0; c < count; ++c) sum[static_cast<size_t>(c)] += factor * values[c];
      }
    }
    for (int64_t c = 0; c < count; ++c) {
      row[first + c] = static_cast<float>(row[first + c] + sum[static_cast<size_t>(c)]);
    }
  }
}

int64_t RowChanges::bytes(const std::vector<LowRank>& changes) {
  int64_t elements = 0;
  for (const LowRank& change : changes) elements += change.up.elements() + change.down.elements();
  return elements * static_cast<int64_t>(sizeof(double));
}

}  // namespace heartmula
