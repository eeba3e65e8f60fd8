// A device that models can be loaded on, and nothing else: what is made of it is up to the class below it.
#pragma once

#include "base/error.h"
#include "ops/ops.h"

namespace heartmula {

class LoadingOps : public Ops {
 public:
  /// Matrices are packed as on `device`, which must outlive it.
  using Ops::append_kv;
  using Ops::attend;
  using Ops::linear;
  using Ops::linear_silu_gate;

  explicit LoadingOps(const Ops& device) : device_(device) {}

  std::string description() const override { return device_.description(); }
  int threads() const override { return device_.threads(); }
  std::vector<int64_t> chunks_by_thread() const override { return {}; }
  void use_threads(int) override {}
  int64_t tile_rows() const override { return device_.tile_rows(); }
  void set_cancel_token(const CancelToken*) override {}
  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override { return Tensor(nullptr, dtype, rows, cols, cols); }
  void upload(View, std::span<const float>) override {}
  PackedLayout packed_layout(DType dtype) const override { return device_.packed_layout(dtype); }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape&, const KvTable*) override { return nullptr; }
  std::unique_ptr<KvTable> make_kv_table(int64_t, int64_t) override { return std::make_unique<KvTable>(); }
  void set_kv_places(KvTable&, int64_t, int64_t, std::span<const int32_t>) override {}
  int64_t kv_block_bytes(const KvCache&) const override { return 0; }
  void download_kv(std::span<std::byte>, const KvCache&, int64_t) override { compute(); }
  void upload_kv(KvCache&, int64_t, std::span<const std::byte>) override { compute(); }
  void upload(View, std::span<const int32_t>) override {}
  Table place(const Table& table) override { return table; }
  std::unique_ptr<Rows> make_rows(int64_t) override { return std::make_unique<Rows>(); }
  void set_rows(Rows&, std::span<const Row>) override {}
  std::unique_ptr<Program> record(std::function<void()>) override { return nullptr; }
  bool works_ahead() const override { return false; }
  Tensor make_mailbox(int64_t rows, int64_t cols) override { return allocate(DType::kI32, rows, cols); }
  std::unique_ptr<CodeSampler> make_sampler(const SamplingRule&, const SamplingNoise&) override { return nullptr; }

  std::span<const std::byte> packed_bytes(const Matrix&) const override { never(); }
  void download(std::span<float>, ConstView) override { compute(); }
  void download(std::span<int32_t>, ConstView) override { compute(); }
  void linear(View, ConstView, const Matrix&, ConstView) override { compute(); }
  void linear_add(View, ConstView, const Matrix&) override { compute(); }
  void linear_add_scaled(View, ConstView, const Matrix&, ConstView) override { compute(); }
  void linear_silu_gate(View, ConstView, const Matrix&) override { compute(); }
  void conv1d(View, ConstView, const Matrix&, int64_t, int64_t, const ConvEpilogue&) override { compute(); }
  void residual_unit(View, View, ConstView, const ResidualUnit&) override { compute(); }
  void rms_norm(View, ConstView, ConstView, float) override { compute(); }
  void rms_norm_modulated(View, ConstView, ConstView, ConstView, ConstView, float) override { compute(); }
  void layer_norm_modulated(View, ConstView, ConstView, ConstView, float) override { compute(); }
  void append_kv(KvCache&, ConstView, ConstView, const Rope&, const Rows&) override { compute(); }
  void attend(View, ConstView, const Rope&, const KvCache&, const Rows&) override { compute(); }
  void attend_all(View, ConstView, ConstView, ConstView, const Rope&, int64_t, int64_t) override { compute(); }
  void embed_sum(View, const Table&, std::span<const int32_t>, int64_t) override { compute(); }
  void embed_codes(View, const Table&, ConstView, int64_t, int64_t) override { compute(); }
  void sample(std::span<const SongSample>, uint32_t) override { compute(); }
  void advance(Rows&) override { compute(); }
  void start(Program&) override { compute(); }
  void post(View, ConstView, ConstView) override { compute(); }
  void collect(std::span<int32_t>, ConstView, int32_t) override { compute(); }
  void increment(View) override { compute(); }
  void clear(View) override { compute(); }
  void copy(View, ConstView) override { compute(); }
  void combine(View, float, ConstView, float, ConstView) override { compute(); }
  void guide(View, ConstView, ConstView, float) override { compute(); }
  void silu(View, ConstView) override { compute(); }
  void round_levels(View, ConstView, float) override { compute(); }
  void diagonal_sum(View, ConstView, ConstView) override { compute(); }

 protected:
  /// Every operation on activations.
  virtual void compute() { never(); }
  /// What a gated matrix is made of.
  static std::vector<std::string> tensors_of(const MatrixSource& gate, const MatrixSource& up) {
    std::vector<std::string> tensors = gate.tensors;
    tensors.insert(tensors.end(), up.tensors.begin(), up.tensors.end());
    return tensors;
  }

 private:
  [[noreturn]] static void never() { throw failure("nothing can be computed on a device that only loads"); }

  const Ops& device_;
};

}  // namespace heartmula
