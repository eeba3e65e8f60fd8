#include "ops/weights.h"

#include <cmath>
#include <cstring>
#include <list>
#include <map>
#include <random>

#include "base/testing.h"
#include "cpu/cpu_ops.h"

namespace heartmula {
namespace {

/// A store of one tensor "NAME" of random values each, some in every stored dtype.
class Weights : public testing::TestWithParam<DType> {
 protected:
  void add(const std::string& name, std::vector<int64_t> shape) {
    size_t elements = 1;
    for (const int64_t dimension : shape) elements *= static_cast<size_t>(dimension);
    std::vector<float>& values = values_[name];
    std::vector<std::byte> bytes(elements * dtype_size(GetParam()));
    for (size_t i = 0; i < elements; ++i) {
      // Few enough bits for each dtype to hold them exactly.
      values.push_back(static_cast<float>(static_cast<int>(generator_() % 255) - 127) / 64.0f);
      store_value(bytes, i, values.back());
    }
    bytes_.push_back(std::move(bytes));
    tensors_.push_back({name, GetParam(), std::move(shape), bytes_.back()});
  }

  WeightStore open() {
    const std::vector<std::byte> file = encode_safetensors(tensors_, {});
    return WeightStore::open(
        folder_.write("model.safetensors", {reinterpret_cast<const char*>(file.data()), file.size()}));
  }

  /// [n, k]: what multiplying the k unit vectors gives is the matrix itself.
  std::vector<float> unpacked(const Matrix& matrix) {
    const Tensor x = ops_->allocate(matrix.dtype(), matrix.k(), matrix.k());
    std::vector<float> identity(static_cast<size_t>(matrix.k() * matrix.k()));
    for (int64_t i = 0; i < matrix.k(); ++i) identity[static_cast<size_t>(i * matrix.k() + i)] = 1;
    ops_->upload(x, identity);
    const Tensor out = ops_->allocate(DType::kF32, matrix.k(), matrix.n());
    ops_->linear(out, x, matrix);
    std::vector<float> transposed(static_cast<size_t>(matrix.k() * matrix.n()));
    ops_->download(transposed, out);
    std::vector<float> result;
    for (int64_t n = 0; n < matrix.n(); ++n) {
      for (int64_t k = 0; k < matrix.k(); ++k) result.push_back(transposed[static_cast<size_t>(k * matrix.n() + n)]);
    }
    return result;
  }

  std::unique_ptr<Ops> ops_ = make_cpu_ops({.threads = 2, .isa = {}});
  std::map<std::string, std::vector<float>> values_;

 private:
  void store_value(std::vector<std::byte>& bytes, size_t index, float value) const {
    if (GetParam() == DType::kF32) {
      std::memcpy(bytes.data() + 4 * index, &value, 4);
    } else {
      uint16_t stored = f32_to_bf16(value);
      if (GetParam() == DType::kF16) {
        for (uint32_t bits = 0; bits < 0x10000; ++bits) {
          if (f16_to_f32(static_cast<uint16_t>(bits)) == value) stored = static_cast<uint16_t>(bits);
        }
      }
      std::memcpy(bytes.data() + 2 * index, &stored, 2);
    }
  }

  TemporaryFolder folder_;
  std::mt19937 generator_{1};
  std::list<std::vector<std::byte>> bytes_;
  std::vector<TensorToWrite> tensors_;
};

INSTANTIATE_TEST_SUITE_P(Stored, Weights, testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& tested) { return std::string(dtype_name(tested.param)); });

TEST_P(Weights, matrices_stand_below_each_other) {
  add("q", {5, 7});
  add("k", {3, 7});
  add("v", {1, 7});
  const WeightStore store = open();
  std::vector<float> want;
  for (const char* name : {"q", "k", "v"}) want.insert(want.end(), values_[name].begin(), values_[name].end());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Matrix matrix = WeightLoader(*ops_, store, dtype).matrix({"q", "k", "v"});
    EXPECT_EQ(matrix.n(), 9);
    EXPECT_EQ(matrix.k(), 7);
    EXPECT_EQ(unpacked(matrix), want);
  }
}

TEST_P(Weights, slices_are_transposed) {
  add("heads", {3, 6, 4});
  const WeightStore store = open();
  const WeightLoader load(*ops_, store, DType::kF32);
  for (size_t slice = 0; slice < 3; ++slice) {
    std::vector<float> want;
    for (size_t n = 0; n < 4; ++n) {
      for (size_t k = 0; k < 6; ++k) want.push_back(values_["heads"][(slice * 6 + k) * 4 + n]);
    }
    EXPECT_EQ(unpacked(load.transposed_slice("heads", static_cast<int64_t>(slice))), want);
  }
}

TEST_P(Weights, convolutions_have_their_taps_outermost) {
  add("conv", {4, 5, 3});
  const WeightStore store = open();
  const WeightLoader load(*ops_, store, DType::kF32);
  std::vector<float> want;
  for (size_t n = 0; n < 4; ++n) {
    for (size_t tap = 0; tap < 3; ++tap) {
      for (size_t c = 0; c < 5; ++c) want.push_back(0.5f * values_["conv"][(n * 5 + c) * 3 + tap]);
    }
  }
  EXPECT_EQ(unpacked(load.conv("conv", 0.5f)), want);
}

TEST_P(Weights, gate_and_up_make_the_gated_product) {
  add("gate", {6, 4});
  add("up", {6, 4});
  const WeightStore store = open();
  const Matrix weight = WeightLoader(*ops_, store, DType::kF32).gate_up("gate", "up");
  const std::vector<float> input = {0.5f, -1.0f, 2.0f, 0.25f};
  const Tensor x = ops_->allocate(DType::kF32, 1, 4);
  ops_->upload(x, input);
  const Tensor out = ops_->allocate(DType::kF32, 1, 6);
  ops_->linear_silu_gate(out, x, weight);
  std::vector<float> got(6);
  ops_->download(got, out);
  for (size_t n = 0; n < 6; ++n) {
    double gate = 0;
    double up = 0;
    for (size_t k = 0; k < 4; ++k) {
      gate += input[k] * values_["gate"][n * 4 + k];
      up += input[k] * values_["up"][n * 4 + k];
    }
    EXPECT_NEAR(got[n], gate / (1 + std::exp(-gate)) * up, 1e-5);
  }
}

TEST_P(Weights, vectors_and_tables_keep_their_values) {
  add("norm", {6, 4});
  const WeightStore store = open();
  const WeightLoader load(*ops_, store, DType::kBF16);
  EXPECT_EQ(load.values("norm"), values_["norm"]);
  const Tensor vector = load.vector("norm");
  const Tensor table = load.table("norm", 6);
  EXPECT_EQ(vector.rows(), 1);
  EXPECT_EQ(vector.cols(), 24);
  EXPECT_EQ(table.rows(), 6);
  EXPECT_EQ(table.cols(), 4);
  for (const Tensor& tensor : {vector, table}) {
    std::vector<float> got(24);
    ops_->download(got, tensor);
    EXPECT_EQ(got, values_["norm"]);
  }
}

}  // namespace
}  // namespace heartmula
