#include "cpu/residual_unit.h"

#include <algorithm>

#include "cpu/products.h"

namespace heartmula::cpu {
namespace {

/// Of both weights, up to which a thread computes all outputs of its rows: they are read again for each of its chunks,
/// from the second cache.
constexpr int64_t kFusedBytes = 640 << 10;
constexpr int64_t kChunksPerThread = 4;

View view_of(void* data, DType dtype, int64_t rows, int64_t cols) {
  return {data, dtype, rows, cols, row_stride(dtype, cols)};
}

/// Whole lines, so that what follows is aligned.
size_t bytes_of(View x) {
  return static_cast<size_t>(x.rows * x.stride) * dtype_size(x.dtype);
}

}  // namespace

void run_residual_unit(Device& device, View out, View copy, ConstView x, const ResidualUnit& unit) {
  if (out.rows == 0) return;
  const Product first{.taps = unit.taps,
                      .channels = unit.conv1.k() / unit.taps,
                      .dilation = unit.dilation,
                      .bias = floats_of(unit.bias1),
                      .prelu = &unit.slope1};
  const Product second{.channels = unit.conv2.k(), .bias = floats_of(unit.bias2), .prelu = &unit.slope2, .add = true};
  const int64_t channels = unit.conv1.n();
  const auto second_of = [&](int64_t row) {
    Product product = second;
    if (copy.data == nullptr) return product;
    product.copy = row_of(copy, row);
    product.copy_stride = copy.stride;
    return product;
  };

  if (unit.conv1.bytes() + unit.conv2.bytes() > kFusedBytes) {
    device.between.reserve(bytes_of(view_of(nullptr, x.dtype, out.rows, channels)));
    const View between = view_of(device.between.data(), x.dtype, out.rows, channels);
    run_product(device, first, between, x, unit.conv1);
    run_product(device, second_of(0), out, between, unit.conv2);
    return;
  }

  device.use_threads_for(out.rows);
  const Element element = element_of(unit.conv1.dtype());
  const auto kernel = element == Element::kF32 ? device.kernels.product_f32 : device.kernels.product_bf16;
  const int64_t tile = device.kernels.tile_rows;
  const int64_t rows =
      std::min(device.kernels.block_rows, tile * divide_up(out.rows, tile * kChunksPerThread * device.pool.threads()));
  const int64_t panels = static_cast<const PackedMatrix&>(unit.conv1.storage()).panels;
  const ProductPart most{0, rows, 0, panels};
  const size_t between_bytes = bytes_of(view_of(nullptr, x.dtype, rows, channels));
  const auto scratch_of = [&](const Product& product) {
    return device.kernels.product_scratch_bytes(product, most, element);
  };
  device.reserve_scratch(between_bytes + std::max(scratch_of(first), scratch_of(second)));

  device.pool.parallel_for(divide_up(out.rows, rows), [&](int64_t chunk, int worker) {
    const int64_t begin = chunk * rows;
    const int64_t count = std::min(rows, out.rows - begin);
    const ProductPart part{0, count, 0, panels};
    void* scratch = static_cast<std::byte*>(device.scratch(worker)) + between_bytes;
    const View between = view_of(device.scratch(worker), x.dtype, count, channels);
    const ConstView in = x.slice_rows(begin, count + (unit.taps - 1) * unit.dilation);
    kernel(with_operands(first, between, in, unit.conv1), part, scratch);
    kernel(with_operands(second_of(begin), out.slice_rows(begin, count), between, unit.conv2), part, scratch);
  });
}

}  // namespace heartmula::cpu
