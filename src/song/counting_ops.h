// A device that only counts the bytes it is asked for: what a model would take, without loading it.
#pragma once

#include "base/error.h"
#include "ops/ops.h"

namespace heartmula {

class CountingOps final : public Ops {
 public:
  int64_t matrix_bytes() const { return matrix_bytes_; }
  int64_t tensor_bytes() const { return tensor_bytes_; }
  int64_t cache_bytes() const { return cache_bytes_; }

  std::string description() const override { return "none"; }
  int threads() const override { return 1; }
  std::vector<int64_t> chunks_by_thread() const override { return {0}; }
  void use_threads(int) override {}
  void set_cancel_token(const CancelToken*) override {}

  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override {
    tensor_bytes_ += rows * cols * static_cast<int64_t>(dtype_size(dtype));
    return Tensor(nullptr, dtype, rows, cols, cols);
  }
  Matrix pack(const MatrixSource& source, DType dtype) override { return count(source.n, source.k, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource&, DType dtype) override {
    return count(2 * gate.n, gate.k, dtype);
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& s) override {
    cache_bytes_ += 2 * s.streams * s.capacity * s.kv_heads * s.head_dim * static_cast<int64_t>(dtype_size(s.dtype));
    return nullptr;
  }
  void upload(View, std::span<const float>) override {}

  // Nothing is computed on it.
  void download(std::span<float>, ConstView) override { never(); }
  void linear(View, ConstView, const Matrix&, ConstView) override { never(); }
  void linear_add(View, ConstView, const Matrix&) override { never(); }
  void linear_add_scaled(View, ConstView, const Matrix&, ConstView) override { never(); }
  void linear_silu_gate(View, ConstView, const Matrix&) override { never(); }
  void conv1d(View, ConstView, const Matrix&, int64_t, int64_t, const ConvEpilogue&) override { never(); }
  void rms_norm(View, ConstView, ConstView, float) override { never(); }
  void rms_norm_modulated(View, ConstView, ConstView, ConstView, ConstView, float) override { never(); }
  void layer_norm_modulated(View, ConstView, ConstView, ConstView, float) override { never(); }
  void append_kv(KvCache&, ConstView, ConstView, const Rope&, std::span<const Row>) override { never(); }
  void attend(View, ConstView, const Rope&, const KvCache&, std::span<const Row>) override { never(); }
  void attend_all(View, ConstView, ConstView, ConstView, const Rope&, int64_t) override { never(); }
  void embed_sum(View, const Table&, std::span<const int32_t>, int64_t) override { never(); }
  void clear(View) override { never(); }
  void copy(View, ConstView) override { never(); }
  void combine(View, float, ConstView, float, ConstView) override { never(); }
  void guide(View, ConstView, ConstView, float) override { never(); }
  void silu(View, ConstView) override { never(); }
  void round_levels(View, ConstView, float) override { never(); }
  void diagonal_sum(View, ConstView, ConstView) override { never(); }

 private:
  Matrix count(int64_t n, int64_t k, DType dtype) {
    const int64_t bytes = n * k * static_cast<int64_t>(dtype_size(dtype));
    matrix_bytes_ += bytes;
    return Matrix(nullptr, dtype, n, k, bytes);
  }
  [[noreturn]] static void never() { throw failure("a memory plan computes nothing"); }

  int64_t matrix_bytes_ = 0;
  int64_t tensor_bytes_ = 0;
  int64_t cache_bytes_ = 0;
};

}  // namespace heartmula
