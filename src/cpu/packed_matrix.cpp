#include "cpu/packed_matrix.h"

namespace heartmula::cpu {
namespace {

constexpr int64_t kTransposeBlock = 16;  // k at a time: as many cache lines of the panel as are written over and over

/// words[k][lane] = rows[lane][k], as f32 or as bf16 in groups of consecutive k; `rows` is zero beyond the last k.
void pack_panel(void* words, const float* rows, int64_t row_pitch, int64_t width, int64_t count, DType dtype,
                int64_t group) {
  for (int64_t first = 0; first < count; first += kTransposeBlock) {
    const int64_t end = std::min(count, first + kTransposeBlock);
    for (int64_t lane = 0; lane < width; ++lane) {
      const float* row = rows + lane * row_pitch;
      if (dtype == DType::kF32) {
        for (int64_t w = first; w < end; ++w) static_cast<float*>(words)[w * width + lane] = row[w];
      } else {
        for (int64_t w = first; w < end; ++w) {
          uint16_t* to = static_cast<uint16_t*>(words) + (w * width + lane) * group;
          for (int64_t k = 0; k < group; ++k) to[k] = f32_to_bf16(row[w * group + k]);
        }
      }
    }
  }
}

/// read_lane(panel, lane, row) writes the k values of the output in that lane, or returns false if there is none.
template <typename ReadLane>
Matrix pack_panels(Device& device, int64_t n, int64_t k, bool gated, DType dtype, const ReadLane& read_lane) {
  const PackedLayout layout = packed_layout(device.kernels, dtype);
  const int64_t width = layout.panel_width;
  const int64_t group = layout.k_per_group;
  const int64_t words = layout.groups(k);
  const int64_t panels = layout.panels(n, gated);
  const int64_t row_pitch = words * group + kTransposeBlock;
  const int64_t bytes = layout.bytes(n, k, gated);
  const int64_t panel_bytes = bytes / panels;
  const std::shared_ptr<void> storage = allocate_aligned(static_cast<size_t>(bytes));
  auto* out = static_cast<std::byte*>(storage.get());
  device.reserve_scratch(static_cast<size_t>(width * row_pitch) * sizeof(float));
  device.for_each(panels, k * width, [&](int64_t panel, int worker) {
    float* rows = static_cast<float*>(device.scratch(worker));
    for (int64_t lane = 0; lane < width; ++lane) {
      float* row = rows + lane * row_pitch;
      const int64_t filled = read_lane(panel, lane, row) ? k : 0;
      std::fill(row + filled, row + row_pitch, 0.0F);
    }
    pack_panel(out + panel * panel_bytes, rows, row_pitch, width, words, dtype, group);
  });
  if (device.lock_weights) lock_memory(storage.get(), static_cast<size_t>(bytes));
  auto packed = std::make_shared<PackedMatrix>();
  packed->words = storage;
  packed->panels = panels;
  packed->gated = gated;
  return Matrix(packed, dtype, n, k, bytes);
}

}  // namespace

PackedLayout packed_layout(const Kernels& kernels, DType dtype) {
  return {dtype, kernels.panel_width, dtype == DType::kF32 ? 1 : kernels.bf16_group};
}

Matrix pack(Device& device, const MatrixSource& source, DType dtype) {
  const int64_t width = device.kernels.panel_width;
  return pack_panels(device, source.n, source.k, false, dtype, [&](int64_t panel, int64_t lane, float* row) {
    const int64_t output = panel * width + lane;
    if (output >= source.n) return false;
    source.read_row(output, row);
    return true;
  });
}

Matrix pack_gate_up(Device& device, const MatrixSource& gate, const MatrixSource& up, DType dtype) {
  const int64_t half = device.kernels.panel_width / 2;
  return pack_panels(device, gate.n, gate.k, true, dtype, [&](int64_t panel, int64_t lane, float* row) {
    const int64_t output = panel * half + lane % half;
    if (output >= gate.n) return false;
    (lane < half ? gate : up).read_row(output, row);
    return true;
  });
}

Matrix adopt(Device& device, const StoredMatrix& stored) {
  if (device.lock_weights) lock_memory(stored.data.data(), stored.data.size());
  auto packed = std::make_shared<PackedMatrix>();
  packed->words = std::shared_ptr<const void>(stored.owner, stored.data.data());
  packed->panels = stored.layout.panels(stored.n, stored.gated);
  packed->gated = stored.gated;
  return Matrix(packed, stored.layout.dtype, stored.n, stored.k, static_cast<int64_t>(stored.data.size()));
}

}  // namespace heartmula::cpu
