#include <gtest/gtest.h>

#include "codec/testing.h"

namespace heartmula {
namespace {

std::vector<int32_t> some_ids(int64_t frames, int64_t entries) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < 8 * frames; ++i) ids.push_back(static_cast<int32_t>((i * i * 3 + 5 * i + 1) % entries));
  return ids;
}

std::vector<float> run(const RandomCheckpoint& checkpoint, const CodecConfig& config, const std::vector<int32_t>& ids) {
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  const auto frames = static_cast<int64_t>(ids.size()) / 8;
  const ResidualVq vq = ResidualVq::load(*ops, checkpoint.store(), config, DType::kF32, frames + 3);
  const Tensor out = ops->allocate(DType::kF32, frames, config.dim);
  vq.forward(*ops, out, ids);
  return testing_cpu::read(*ops, out);
}

TEST(ResidualVq, codes_become_the_conditioning_of_float64) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 1);
  for (const int64_t frames : {1, 7, 40}) {
    const std::vector<int32_t> ids = some_ids(frames, config.codebook_size);
    EXPECT_LT(relative_distance(run(*checkpoint, config, ids), oracle::conditioning(*checkpoint, config, ids).values),
              1e-6);
  }
}

TEST(ResidualVq, dropped_codes_contribute_nothing) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 2);
  std::vector<int32_t> ids = some_ids(5, config.codebook_size);
  for (const size_t dropped : {0, 7, 12, 33}) ids[dropped] = -1;
  std::fill_n(ids.begin() + 16, 8, -1);  // a whole frame
  EXPECT_LT(relative_distance(run(*checkpoint, config, ids), oracle::conditioning(*checkpoint, config, ids).values),
            1e-6);
}

TEST(ResidualVq, a_codebook_without_the_axis_of_heads_is_the_same) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 3);
  std::vector<TensorToWrite> tensors;
  for (const ExpectedTensor& expected : ResidualVq::expected_tensors(config, checkpoint->store())) {
    const StoredTensor& tensor = checkpoint->store().get(expected.name);
    std::vector<int64_t> shape = tensor.shape;
    if (shape.size() == 3) shape.erase(shape.begin());
    tensors.push_back({tensor.name, tensor.dtype, shape, tensor.data});
  }
  const TemporaryFolder folder;
  const std::vector<std::byte> bytes = encode_safetensors(tensors, {});
  const WeightStore flat =
      WeightStore::open(folder.write("flat.safetensors", {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  flat.require(ResidualVq::expected_tensors(config, flat), "config.json");

  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  const std::vector<int32_t> ids = some_ids(4, config.codebook_size);
  const Tensor out = ops->allocate(DType::kF32, 4, config.dim);
  ResidualVq::load(*ops, flat, config, DType::kF32, 4).forward(*ops, out, ids);
  EXPECT_EQ(testing_cpu::read(*ops, out), run(*checkpoint, config, ids));
}

}  // namespace
}  // namespace heartmula
