// A device that computes nothing: what a stage would have to do, metered without doing it.
#pragma once

#include <algorithm>

#include "checkpoint/loading_ops.h"

namespace heartmula::bench {

class DryOps : public LoadingOps {
 public:
  using LoadingOps::LoadingOps;

  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override {
    return Tensor(std::shared_ptr<void>(std::shared_ptr<void>(), &nothing_), dtype, rows, cols, cols);
  }
  Matrix pack(const MatrixSource& source, DType dtype) override { return matrix(source, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource&, DType dtype) override {
    return matrix(gate, dtype);
  }
  Matrix adopt(const StoredMatrix& stored) override {
    return Matrix(nullptr, stored.layout.dtype, stored.n, stored.k, 0);
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape&, const KvTable*) override {
    return std::make_unique<NoCache>();
  }
  void download(std::span<float> values, ConstView) override { std::fill(values.begin(), values.end(), 0.0f); }
  void download(std::span<int32_t> values, ConstView) override { std::fill(values.begin(), values.end(), 0); }

 private:
  class NoCache final : public KvCache {
   public:
    int64_t bytes() const override { return 0; }
  };

  static Matrix matrix(const MatrixSource& source, DType dtype) {
    return Matrix(nullptr, dtype, source.n, source.k, 0);
  }
  void compute() override {}

  std::byte nothing_{};  // where all tensors begin; nobody reads or writes them
};

}  // namespace heartmula::bench
