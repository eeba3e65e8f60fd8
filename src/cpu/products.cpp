#include "cpu/products.h"

namespace heartmula::cpu {
namespace {

constexpr int64_t kStreamBytes = 1024 << 10;  // of weights a chunk, where few rows stream them
constexpr int64_t kChunksPerThread = 4;

}  // namespace

ProductCut cut_product(const Kernels& kernels, int threads, int64_t rows, int64_t panels, int64_t words) {
  const int64_t width = kernels.panel_width;
  const int64_t panel_bytes = words * width * int64_t{sizeof(uint32_t)};
  ProductCut cut;
  cut.stream = rows <= 4 * kernels.tile_rows;
  cut.rows = std::min(
      rows, kernels.tile_rows * divide_up(divide_up(rows, divide_up(rows, kernels.block_rows)), kernels.tile_rows));
  cut.panels = cut.stream ? 2 * divide_up(kStreamBytes, 2 * panel_bytes) : kernels.block_columns / width;
  cut.panels = std::min(cut.panels, panels);

  const int64_t worthwhile = std::max<int64_t>(1, rows * panels * width * words / kChunkCost);
  const int64_t wanted = threads == 1 ? 1 : std::min(worthwhile, kChunksPerThread * threads);
  const auto chunks = [&] { return divide_up(rows, cut.rows) * divide_up(panels, cut.panels); };
  while (chunks() < wanted && cut.panels > 1) cut.panels = divide_up(cut.panels, 2);
  while (chunks() < wanted && cut.rows > kernels.tile_rows) {
    cut.rows = kernels.tile_rows * divide_up(cut.rows, 2 * kernels.tile_rows);
  }
  return cut;
}

Product with_operands(Product product, View out, ConstView x, const Matrix& weight) {
  const auto& packed = static_cast<const PackedMatrix&>(weight.storage());
  product.a = x.data;
  product.a_stride = x.stride;
  product.weights = packed.words.get();
  product.columns = weight.n();
  product.gated = packed.gated;
  product.out = {out.data, element_of(out.dtype)};
  product.out_stride = out.stride;
  return product;
}

void run_product(Device& device, Product product, View out, ConstView x, const Matrix& weight) {
  const auto& packed = static_cast<const PackedMatrix&>(weight.storage());
  if (out.rows == 0) return;
  device.use_threads_for(out.rows);
  product = with_operands(product, out, x, weight);

  const Element element = element_of(weight.dtype());
  const int64_t words = element == Element::kF32 ? weight.k() : divide_up(weight.k(), 2);
  const ProductCut cut = cut_product(device.kernels, device.pool.threads(), out.rows, packed.panels, words);
  product.stream = cut.stream;
  product.fetch_ahead = device.fetch_ahead;
  if (cut.stream) {
    const size_t staged = device.kernels.product_staged_bytes(product, out.rows, element);
    if (staged != 0) {
      device.shared.reserve(staged);
      device.kernels.product_stage(product, out.rows, device.shared.data());
    }
  }
  const int64_t row_chunks = divide_up(out.rows, cut.rows);
  const int64_t panel_chunks = divide_up(packed.panels, cut.panels);
  const auto part_of = [&](int64_t chunk) {
    const int64_t row = chunk % row_chunks * cut.rows;  // neighbours in time share weights
    const int64_t panel = chunk / row_chunks * cut.panels;
    return ProductPart{row, std::min(out.rows, row + cut.rows), panel, std::min(packed.panels, panel + cut.panels)};
  };
  device.reserve_scratch(device.kernels.product_scratch_bytes(product, part_of(0), element));
  const auto kernel = element == Element::kF32 ? device.kernels.product_f32 : device.kernels.product_bf16;
  device.pool.parallel_for(row_chunks * panel_chunks,
                           [&](int64_t chunk, int worker) { kernel(product, part_of(chunk), device.scratch(worker)); });
}

}  // namespace heartmula::cpu
