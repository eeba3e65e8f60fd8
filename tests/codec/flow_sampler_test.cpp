#include <gtest/gtest.h>

#include "codec/testing.h"

namespace heartmula {
namespace {

constexpr int64_t kFrames = 12;
constexpr int64_t kKnown = 4;

struct Window {
  oracle::Array noise;
  oracle::Array codes;
  oracle::Array context;
};

Window some_window(const CodecConfig& config, uint32_t seed, int64_t known) {
  return {normal_array(kFrames, config.out_channels, seed), normal_array(kFrames / 2, config.dim, seed + 1),
          normal_array(known, config.out_channels, seed + 2)};
}

std::vector<float> run(Ops& ops, FlowSampler& sampler, const Window& window) {
  const Tensor latents = ops.allocate(DType::kF32, kFrames, window.noise.cols);
  const Tensor context = uploaded(ops, window.context.rows > 0 ? window.context : oracle::Array(1, window.noise.cols));
  sampler.sample(latents, uploaded(ops, window.noise), uploaded(ops, window.codes),
                 context.slice_rows(0, window.context.rows), {});
  return testing_cpu::read(ops, latents);
}

class FlowSamplerTest : public testing::Test {
 protected:
  VelocityTransformer load(DType dtype) const {
    return VelocityTransformer::load(*ops_, checkpoint_->store(), config_, dtype, kFrames);
  }

  const CodecConfig config_ = small_codec();
  const std::unique_ptr<RandomCheckpoint> checkpoint_ = random_codec(config_, 9);
  const std::unique_ptr<Ops> ops_ = make_cpu_ops({.threads = 2, .isa = {}});
};

TEST_F(FlowSamplerTest, latents_are_those_of_float64) {
  const VelocityTransformer transformer = load(DType::kF32);
  for (const int64_t known : {int64_t{0}, kKnown}) {
    const Window window = some_window(config_, 20, known);
    for (const int64_t steps : {1, 3}) {
      for (const double guidance : {1.25, 2.0, 1.0, 0.5}) {
        FlowSampler sampler(*ops_, transformer, config_, kFrames, {steps, static_cast<float>(guidance)});
        const oracle::Array want = oracle::flow(*checkpoint_, config_, window.noise, window.codes, window.context,
                                                steps, guidance > 1 ? guidance : 1);
        EXPECT_LT(relative_distance(run(*ops_, sampler, window), want.values), 5e-6)
            << known << " known frames, " << steps << " steps, guidance " << guidance;
      }
    }
  }
}

TEST_F(FlowSamplerTest, the_known_beginning_stays_as_it_is) {
  const VelocityTransformer transformer = load(DType::kBF16);
  const Window window = some_window(config_, 30, kKnown);
  FlowSampler sampler(*ops_, transformer, config_, kFrames, {3, 1.25f});
  const std::vector<float> latents = run(*ops_, sampler, window);
  EXPECT_EQ(std::vector<float>(latents.begin(), latents.begin() + kKnown * config_.out_channels),
            testing_cpu::floats(window.context));
}

TEST_F(FlowSamplerTest, a_window_is_the_same_alone_and_after_another) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const VelocityTransformer transformer = load(dtype);
    for (const int64_t known : {int64_t{0}, kKnown}) {
      const Window window = some_window(config_, 40, known);
      FlowSampler fresh(*ops_, transformer, config_, kFrames, {2, 1.25f});
      FlowSampler used(*ops_, transformer, config_, kFrames, {2, 1.25f});
      run(*ops_, used, some_window(config_, 50, kKnown - known));
      EXPECT_TRUE(testing_cpu::same_bits(run(*ops_, used, window), run(*ops_, fresh, window)));
    }
  }
}

TEST_F(FlowSamplerTest, every_step_is_reported) {
  const VelocityTransformer transformer = load(DType::kF32);
  const Window window = some_window(config_, 60, 0);
  FlowSampler sampler(*ops_, transformer, config_, kFrames, {3, 1.0f});
  const Tensor latents = ops_->allocate(DType::kF32, kFrames, config_.out_channels);
  std::vector<int64_t> reports;
  sampler.sample(latents, uploaded(*ops_, window.noise), uploaded(*ops_, window.codes), {},
                 [&](int64_t done, int64_t total) {
                   EXPECT_EQ(total, 3);
                   reports.push_back(done);
                 });
  EXPECT_EQ(reports, (std::vector<int64_t>{1, 2, 3}));
}

TEST(FlowTimes, are_those_of_a_linspace_from_both_ends) {
  const std::vector<float> ten = flow_times(10);
  ASSERT_EQ(ten.size(), 11u);
  for (size_t k = 0; k <= 10; ++k) EXPECT_EQ(ten[k], static_cast<float>(static_cast<double>(k) / 10)) << k;
  for (const int64_t steps : {1, 2, 3, 6, 7, 9, 20, 25, 1000}) {
    const std::vector<float> times = flow_times(steps);
    ASSERT_EQ(static_cast<int64_t>(times.size()), steps + 1);
    EXPECT_EQ(times.front(), 0.0f);
    EXPECT_EQ(times.back(), 1.0f);
    const float step = static_cast<float>(1.0 / static_cast<double>(steps));
    for (size_t k = 1; k + 1 < times.size(); ++k) {
      EXPECT_NEAR(times[k], static_cast<double>(k) / static_cast<double>(steps), 1e-7);
      const bool upper = static_cast<int64_t>(k) >= (steps + 1) / 2;
      const auto from_end = static_cast<float>(steps - static_cast<int64_t>(k));
      EXPECT_EQ(times[k], upper ? 1.0f - step * from_end : step * static_cast<float>(k)) << k << " of " << steps;
    }
  }
}

}  // namespace
}  // namespace heartmula
