// `heartmula verify` can fail: one changed weight, code or sample, or a missing file, is found and its stage named.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "base/testing.h"
#include "tensor/safetensors.h"
#include "verify/golden_case.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

/// Keeps the tensors that `keep` accepts, and lets `change` edit the bytes of one.
void rewrite(const fs::path& path, const std::function<bool(const std::string&)>& keep, const std::string& changed = "",
             const std::function<void(std::vector<std::byte>&)>& change = {}) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::vector<std::vector<std::byte>> data;
  std::vector<TensorToWrite> tensors;
  for (const StoredTensor& tensor : file.tensors()) {
    if (!keep(tensor.name)) continue;
    data.emplace_back(tensor.data.begin(), tensor.data.end());
    if (tensor.name == changed) change(data.back());
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape, {}});
  }
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = data[i];
  const std::vector<std::byte> bytes = encode_safetensors(tensors, {});
  fs::remove(path);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

bool everything(const std::string&) {
  return true;
}

void add_to_first_float(std::vector<std::byte>& bytes, float difference) {
  float value = 0;
  std::memcpy(&value, bytes.data(), sizeof(value));
  value += difference;
  std::memcpy(bytes.data(), &value, sizeof(value));
}

/// A copy of the smallest case, cut down to one codec case and one run of the pipeline.
class GoldenFaults : public testing::Test {
 protected:
  GoldenFaults() : path_(folder_ / "case") {
    fs::copy(fs::path(HEARTMULA_TEST_DATA) / "tiny1", path_, fs::copy_options::recursive);
    rewrite(path_ / "golden_codec.safetensors", [](const std::string& name) { return name.starts_with("short."); });
    rewrite(path_ / "golden_pipeline.safetensors", [](const std::string& name) { return name.starts_with("run0."); });
    rewrite(path_ / "golden_lm.safetensors", [](const std::string& name) { return !name.starts_with("long."); });
  }

  /// The stages that fail.
  std::vector<std::string> failed() const {
    std::vector<std::string> stages;
    for (const Check& check : verify_case(path_, {}, nullptr)) {
      if (!check.passed) stages.push_back(check.stage + ": " + check.what);
    }
    return stages;
  }

  static bool names(const std::vector<std::string>& stages, const std::string& stage) {
    return std::any_of(stages.begin(), stages.end(), [&](const std::string& s) { return s.starts_with(stage); });
  }

  TemporaryFolder folder_;
  fs::path path_;
};

TEST_F(GoldenFaults, an_untouched_case_passes) {
  EXPECT_EQ(failed(), std::vector<std::string>());
}

TEST_F(GoldenFaults, a_changed_weight_of_the_language_model_is_found) {
  rewrite(path_ / "HeartMuLa-oss-3B" / "model.safetensors", everything, "backbone.layers.1.mlp.w2.weight",
          [](std::vector<std::byte>& bytes) { add_to_first_float(bytes, 0.1F); });
  const std::vector<std::string> stages = failed();
  EXPECT_TRUE(names(stages, "lm f32.cfg1.5: backbone layers"));
  EXPECT_FALSE(names(stages, "codec"));
}

TEST_F(GoldenFaults, a_changed_weight_of_the_codec_is_found) {
  rewrite(path_ / "HeartCodec-oss" / "model.safetensors", everything,
          "flow_matching.estimator.transformer_blocks.0.mlp.down.weight",
          [](std::vector<std::byte>& bytes) { add_to_first_float(bytes, 0.1F); });
  const std::vector<std::string> stages = failed();
  EXPECT_TRUE(names(stages, "codec short: velocities"));
  EXPECT_FALSE(names(stages, "lm"));
}

TEST_F(GoldenFaults, a_changed_code_is_found) {
  rewrite(path_ / "golden_pipeline.safetensors", everything, "run0.frames",
          [](std::vector<std::byte>& bytes) { bytes[0] ^= std::byte{1}; });
  const std::vector<std::string> stages = failed();
  ASSERT_EQ(stages.size(), 1U);
  EXPECT_TRUE(stages[0].starts_with("pipeline run0")) << stages[0];
}

TEST_F(GoldenFaults, a_changed_sample_is_found) {
  rewrite(path_ / "golden_codec.safetensors", everything, "short.wav_head",
          [](std::vector<std::byte>& bytes) { add_to_first_float(bytes, 1e-3F); });
  const std::vector<std::string> stages = failed();
  ASSERT_EQ(stages.size(), 1U);
  EXPECT_TRUE(stages[0].starts_with("codec short: samples")) << stages[0];
}

TEST_F(GoldenFaults, a_missing_file_is_found) {
  fs::remove(path_ / "golden_lm.safetensors");
  const std::vector<std::string> stages = failed();
  ASSERT_EQ(stages.size(), 1U);
  EXPECT_NE(stages[0].find("golden_lm.safetensors"), std::string::npos) << stages[0];
}

}  // namespace
}  // namespace heartmula
