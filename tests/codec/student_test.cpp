// A student (codec_speed.md C3) against PyTorch: tests/golden/data/student1/README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/testing.h"
#include "codec/testing.h"

namespace heartmula {
namespace {

const std::filesystem::path kCase = std::filesystem::path(HEARTMULA_TEST_DATA) / "student1";

class Student : public testing::TestWithParam<const char*> {
 protected:
  const std::filesystem::path folder_ = kCase / GetParam();
  const CodecConfig config_ = read_codec_config(folder_ / "config.json");
  const WeightStore weights_ = HeartCodec::open_weights(folder_, config_);
  const SafetensorsFile golden_ = SafetensorsFile::open(kCase / "student.safetensors");
  const std::unique_ptr<Ops> ops_ = make_cpu_ops({.threads = 2, .isa = {}});

  template <typename T>
  std::vector<T> golden(const std::string& name) const {
    const auto tensor = std::ranges::find(golden_.tensors(), name, &StoredTensor::name);
    std::vector<T> values(tensor->data.size() / sizeof(T));
    std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
    return values;
  }
  Tensor uploaded(const std::string& name, int64_t rows) const {
    const std::vector<float> values = golden<float>(name);
    Tensor tensor = ops_->allocate(DType::kF32, rows, static_cast<int64_t>(values.size()) / rows);
    ops_->upload(tensor, values);
    return tensor;
  }
};

TEST_P(Student, latents_are_pytorchs_for_every_number_of_steps) {
  const HeartCodec codec = HeartCodec::load(*ops_, weights_, config_, DType::kF32);
  const std::vector<int64_t> codes = golden<int64_t>("codes");
  const auto frames = static_cast<int64_t>(codes.size()) / kCodebooks;
  const Tensor conditioning = ops_->allocate(DType::kF32, frames, config_.dim);
  codec.vq.forward(*ops_, conditioning, std::vector<int32_t>(codes.begin(), codes.end()));
  const Tensor noise = uploaded("noise", 2 * frames);
  const Tensor context = uploaded("context", 8);
  const Tensor latents = ops_->allocate(DType::kF32, 2 * frames, config_.out_channels);
  for (const int64_t steps : {4, 2, 1}) {
    const CodecSettings settings = resolve_codec_settings({.flow = {.steps = steps}}, config_);
    EXPECT_EQ(flow_cost(settings.flow), static_cast<double>(steps));
    FlowSampler sampler(*ops_, codec.transformer, config_, 2 * frames, settings.flow);
    for (const bool has_context : {true, false}) {
      FlowWindow window{latents, noise, conditioning};
      if (has_context) window.context = context;
      sampler.sample({&window, 1}, {});
      const std::vector<float> expected =
          golden<float>(fmt::format("latents_{}{}", steps, has_context ? "" : "_without_context"));
      EXPECT_LT(relative_distance(testing_cpu::read(*ops_, latents), {expected.begin(), expected.end()}), 1e-5)
          << steps << " steps";
    }
  }
}

TEST_P(Student, takes_no_other_way_of_solving) {
  EXPECT_EQ(resolve_codec_settings({.flow = {}}, config_).flow.steps, 4);
  EXPECT_EQ(resolve_codec_settings(CodecSettings::of(CodecQuality::kFast), config_).flow.steps, 4);
  const auto refused = [&](const CodecSettings& settings) {
    return error_of(ErrorKind::kUser, [&] { resolve_codec_settings(settings, config_); });
  };
  EXPECT_THAT(refused({.flow = {.steps = 3}}), testing::HasSubstr("was trained for 4, 2, 1"));
  EXPECT_THAT(refused({.flow = {.solver = FlowSolver::kHeun}}), testing::HasSubstr("--codec_solver: "));
  EXPECT_THAT(refused({.flow = {.guidance = 2}}), testing::HasSubstr("--codec_guidance_scale: "));
}

// Whatever the preset: it says how an ordinary codec solves.
TEST_P(Student, goes_with_every_preset_and_number_of_steps) {
  for (const auto& [quality, name] : kCodecQualities.entries) {
    for (const int64_t steps : {4, 2, 1}) {
      CodecSettings settings = CodecSettings::of(quality);
      settings.flow.steps = steps;
      const CodecSettings resolved = resolve_codec_settings(settings, config_);
      EXPECT_EQ(resolved.flow.steps, steps) << name;
      EXPECT_TRUE(resolved.flow.flow_map);
      EXPECT_FALSE(resolved.flow.guided());
      EXPECT_EQ(resolve_codec_settings(resolved, config_), resolved) << name;
    }
  }
}

TEST(CodecPreset, gives_way_to_what_is_asked_for_beside_it) {
  CodecSettings settings = CodecSettings::of(CodecQuality::kBalanced);
  settings.flow.steps = 3;
  EXPECT_EQ(resolve_codec_settings(settings, CodecConfig()).flow.guidance_steps, (std::vector<int64_t>{0, 2}));
  settings.order = WindowOrder::kParallel;
  EXPECT_FALSE(resolve_codec_settings(settings, CodecConfig()).short_last_window);
  settings.flow.guidance_steps = {0, 3};
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_codec_settings(settings); }),
              testing::HasSubstr("--codec_guidance_steps names step 3"));
}

INSTANTIATE_TEST_SUITE_P(Folders, Student, testing::Values("HeartCodec-oss", "HeartCodec-student"),
                         [](const auto& tested) { return tested.index == 0 ? "whole" : "what_differs_from_its_base"; });

}  // namespace
}  // namespace heartmula
