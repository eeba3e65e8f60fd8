// How a product is cut into chunks for the threads: along outputs and rows, never along k.
#pragma once

#include "cpu/packed_matrix.h"

namespace heartmula::cpu {

/// The size of one chunk.
struct ProductCut {
  int64_t rows = 0;
  int64_t panels = 0;
  bool stream = false;  // see Product
};

ProductCut cut_product(const Kernels& kernels, int threads, int64_t rows, int64_t panels, int64_t words);

/// `product` with its operands, for out.rows rows.
Product with_operands(Product product, View out, ConstView x, const Matrix& weight);

/// Computes with_operands(product, ...).
void run_product(Device& device, Product product, View out, ConstView x, const Matrix& weight);

}  // namespace heartmula::cpu
