#include <gtest/gtest.h>

#include "codec/testing.h"

namespace heartmula {
namespace {

constexpr int64_t kFrames = 11;

std::vector<float> run(Ops& ops, const VelocityTransformer& transformer, const CodecConfig& config,
                       const std::vector<oracle::Array>& windows, float t) {
  const auto batch = static_cast<int64_t>(windows.size());
  const auto buffers = transformer.make_buffers(ops, batch, kFrames);
  for (int64_t item = 0; item < batch; ++item) {
    ops.copy(transformer.input(*buffers, item), uploaded(ops, windows[static_cast<size_t>(item)]));
  }
  const Tensor velocity = ops.allocate(DType::kF32, batch * kFrames, config.out_channels);
  const FlowEvaluation evaluation{.t = t};
  std::vector<VelocityTransformer::Modulation> modulation = transformer.make_modulations(ops, 1);
  transformer.modulate(ops, modulation, {&evaluation, 1});
  transformer.forward(ops, velocity, modulation[0], *buffers, batch);
  return testing_cpu::read(ops, velocity);
}

TEST(VelocityTransformer, velocities_are_those_of_float64) {
  CodecConfig configs[] = {small_codec(), small_codec()};
  configs[1].num_heads = 3;
  configs[1].head_dim = 10;
  configs[1].num_layers = 1;
  configs[1].num_layers_2 = 1;
  for (const CodecConfig& config : configs) {
    const auto checkpoint = random_codec(config, 4);
    const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
    const VelocityTransformer transformer =
        VelocityTransformer::load(*ops, checkpoint->store(), config, DType::kF32, kFrames);
    const oracle::Array window = normal_array(kFrames, config.in_channels, 5);
    for (const float t : {0.0f, 0.3f, 0.9f}) {
      EXPECT_LT(relative_distance(run(*ops, transformer, config, {window}, t),
                                  oracle::velocity(*checkpoint, config, window, t).values),
                1e-5)
          << "t = " << t;
    }
  }
}

TEST(VelocityTransformer, a_window_is_the_same_alone_and_beside_another) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 6);
  const oracle::Array windows[] = {normal_array(kFrames, config.in_channels, 7),
                                   normal_array(kFrames, config.in_channels, 8)};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int threads : {1, 3}) {
      const auto ops = make_cpu_ops({.threads = threads, .isa = {}});
      const VelocityTransformer transformer =
          VelocityTransformer::load(*ops, checkpoint->store(), config, dtype, kFrames);
      std::vector<float> expected = run(*ops, transformer, config, {windows[0]}, 0.4f);
      const std::vector<float> second = run(*ops, transformer, config, {windows[1]}, 0.4f);
      expected.insert(expected.end(), second.begin(), second.end());
      EXPECT_TRUE(testing_cpu::same_bits(run(*ops, transformer, config, {windows[0], windows[1]}, 0.4f), expected));
    }
  }
}

}  // namespace
}  // namespace heartmula
