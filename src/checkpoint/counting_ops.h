// Counts the bytes that a model asks for: what it would take, without loading it.
#pragma once

#include <algorithm>

#include "checkpoint/loading_ops.h"
#include "tensor/weight_store.h"

namespace heartmula {

class CountingOps final : public LoadingOps {
 public:
  /// `store` is where the weights come from, if a model is loaded.
  explicit CountingOps(const Ops& device, const WeightStore* store = nullptr) : LoadingOps(device), store_(store) {}

  int64_t matrix_bytes() const { return matrix_bytes_; }  // of packed copies
  int64_t mapped_bytes() const { return mapped_bytes_; }  // of matrices that are used where they lie
  int64_t source_bytes() const { return source_bytes_; }  // of the stored tensors of one packed matrix, at most
  int64_t tensor_bytes() const { return tensor_bytes_; }
  int64_t cache_bytes() const { return cache_bytes_; }
  int64_t placed_bytes() const { return placed_bytes_; }  // of tables that are copied to a device with its own memory

  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override {
    tensor_bytes_ += rows * cols * static_cast<int64_t>(dtype_size(dtype));
    return LoadingOps::allocate(dtype, rows, cols);
  }
  Table place(const Table& table) override {
    placed_bytes_ += table.rows.rows * table.rows.stride * static_cast<int64_t>(dtype_size(table.rows.dtype));
    return table;
  }
  Matrix pack(const MatrixSource& source, DType dtype) override { return count(source, source.tensors, false, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) override {
    return count(gate, tensors_of(gate, up), true, dtype);
  }
  Matrix adopt(const StoredMatrix& stored) override {
    const auto bytes = static_cast<int64_t>(stored.data.size());
    mapped_bytes_ += bytes;
    return Matrix(nullptr, stored.layout.dtype, stored.n, stored.k, bytes);
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& s, const KvTable*) override {
    const int64_t positions = s.blocks > 0 ? s.blocks * kKvBlock : s.streams * s.capacity;
    cache_bytes_ += 2 * positions * s.kv_heads * s.head_dim * static_cast<int64_t>(dtype_size(s.dtype));
    return nullptr;
  }

 private:
  Matrix count(const MatrixSource& source, const std::vector<std::string>& tensors, bool gated, DType dtype) {
    int64_t stored = 0;
    for (const std::string& name : tensors) {
      const StoredTensor* tensor = store_->find(name);  // none in a packed file
      if (tensor != nullptr) stored += static_cast<int64_t>(tensor->data.size());
      stored += RowChanges::bytes(store_->changes(name));
    }
    source_bytes_ = std::max(source_bytes_, stored);
    const int64_t bytes = packed_layout(dtype).bytes(source.n, source.k, gated);
    matrix_bytes_ += bytes;
    return Matrix(nullptr, dtype, source.n, source.k, bytes);
  }

  const WeightStore* store_;
  int64_t matrix_bytes_ = 0;
  int64_t source_bytes_ = 0;
  int64_t mapped_bytes_ = 0;
  int64_t tensor_bytes_ = 0;
  int64_t cache_bytes_ = 0;
  int64_t placed_bytes_ = 0;
};

}  // namespace heartmula
