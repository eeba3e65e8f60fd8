// A packed checkpoint makes the same music as the stock one, wherever it was packed.
#include "checkpoint/convert.h"

#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "base/output_lock.h"
#include "base/testing.h"
#include "checkpoint/loading_ops.h"
#include "checkpoint/memory_plan.h"
#include "checkpoint/packed_writer.h"
#include "cpu/cpu_ops.h"
#include "decode/frame_loop.h"
#include "tensor/fingerprint.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

ModelOptions options(const std::string& folder, DType mula, DType codec) {
  return {.checkpoint = {.model_path = folder, .mula_dtype = mula, .codec_dtype = codec}, .machine = {.threads = 2}};
}

std::vector<Frame> frames_of(Models& models) {
  FrameLoopSettings settings;
  settings.max_audio_length_ms = 5 * kFrameMs;
  settings.audio_eos_id = 1 << 20;  // no code ends this song
  const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), "piano,happy", "[verse]\nla la la");
  const PhiloxNoise noise(7);
  LmBatch batch(
      models.lm_ops(), models.lm(),
      {.streams = settings.sampling.streams(), .positions = required_context(models.lm_config(), prompt, settings)});
  std::vector<Frame> frames;
  generate_frames(batch, prompt, {}, settings, noise, [&](int64_t, const Frame& f) { frames.push_back(f); });
  return frames;
}

std::vector<float> samples_of(Models& models) {
  const PhiloxCodecNoise noise(5);
  std::vector<float> samples;
  SongDecoder decoder(models.codec_ops(), models.codec(), {.flow = {.steps = 1, .guidance = 1.0}}, noise,
                      [&](std::span<const float> left, std::span<const float> right) {
                        samples.insert(samples.end(), left.begin(), left.end());
                        samples.insert(samples.end(), right.begin(), right.end());
                      });
  decoder.push(std::vector<Frame>(10, Frame{1, 2, 3, 4, 5, 6, 7, 8}));
  decoder.finish();
  return samples;
}

struct FramesAndSamples {
  std::vector<Frame> frames;
  std::vector<float> samples;
  bool operator==(const FramesAndSamples&) const = default;
};

FramesAndSamples music_of(const std::string& folder, DType mula, DType codec) {
  Models models(options(folder, mula, codec), CheckpointParts::kAll, nullptr);
  return {frames_of(models), samples_of(models)};
}

std::string converted(const TemporaryFolder& folder, DType mula, DType codec, const std::string& from = kTinyCheckpoint,
                      const std::string& name = "packed") {
  convert_checkpoint(options(from, mula, codec), folder / name, {}, nullptr);
  return folder / name;
}

/// Packs in panels that no kernel wants, value by value.
class OtherLayoutOps final : public LoadingOps {
 public:
  OtherLayoutOps(const Ops& device, int64_t panel_width, int64_t k_per_group)
      : LoadingOps(device), panel_width_(panel_width), k_per_group_(k_per_group) {}

  PackedLayout packed_layout(DType dtype) const override { return {dtype, panel_width_, k_per_group_}; }
  Matrix pack(const MatrixSource& source, DType dtype) override { return pack({&source}, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) override {
    return pack({&gate, &up}, dtype);
  }
  Matrix adopt(const StoredMatrix&) override { throw std::logic_error("not in this layout"); }
  std::span<const std::byte> packed_bytes(const Matrix& matrix) const override {
    return static_cast<const Bytes&>(matrix.storage()).bytes;
  }

 private:
  struct Bytes : Matrix::Storage {
    std::vector<std::byte> bytes;
  };

  Matrix pack(const std::vector<const MatrixSource*>& sources, DType dtype) {
    const int64_t n = sources[0]->n;
    const int64_t k = sources[0]->k;
    const bool gated = sources.size() == 2;
    const int64_t outputs = gated ? panel_width_ / 2 : panel_width_;
    auto packed = std::make_shared<Bytes>();
    packed->bytes.resize(static_cast<size_t>(packed_layout(dtype).bytes(n, k, gated)));
    std::vector<float> row(static_cast<size_t>(k));
    for (size_t half = 0; half < sources.size(); ++half) {
      for (int64_t output = 0; output < n; ++output) {
        sources[half]->read_row(output, row.data());
        const int64_t lane = output % outputs + static_cast<int64_t>(half) * outputs;
        for (int64_t i = 0; i < k; ++i) {
          const int64_t group = output / outputs * ((k + k_per_group_ - 1) / k_per_group_) + i / k_per_group_;
          store(packed->bytes, (group * panel_width_ + lane) * k_per_group_ + i % k_per_group_, row[i], dtype);
        }
      }
    }
    const auto bytes = static_cast<int64_t>(packed->bytes.size());
    return Matrix(packed, dtype, n, k, bytes);
  }
  static void store(std::vector<std::byte>& bytes, int64_t element, float value, DType dtype) {
    const uint16_t rounded = f32_to_bf16(value);
    const auto size = static_cast<int64_t>(dtype_size(dtype));
    const void* from = dtype == DType::kF32 ? static_cast<const void*>(&value) : &rounded;
    std::memcpy(bytes.data() + element * size, from, static_cast<size_t>(size));
  }

  int64_t panel_width_;
  int64_t k_per_group_;
};

/// A packed checkpoint from a machine that is not this one.
std::string foreign(const TemporaryFolder& folder, DType mula, DType codec, int64_t panel_width, int64_t k_per_group) {
  const std::string path = converted(folder, mula, codec);
  Models models(options(kTinyCheckpoint, mula, codec), CheckpointParts::kAll, nullptr);
  OtherLayoutOps other(models.lm_ops(), panel_width, k_per_group);
  const auto write = [](const PackedWriter& writer, const fs::path& file) {
    writer.write(
        file, [](int64_t) {}, nullptr);
  };
  write({other, models.lm_store(), HeartMula::expected_tensors(models.lm_config()), mula, "",
         [&](Ops& ops) { HeartMula::load(ops, models.lm_store(), models.lm_config(), mula); }},
        fs::path(path) / "HeartMuLa-oss-3B/model.safetensors");
  write({other, models.codec_store(), HeartCodec::expected_tensors(models.codec_config(), models.codec_store()), codec,
         "", [&](Ops& ops) { HeartCodec::load(ops, models.codec_store(), models.codec_config(), codec); }},
        fs::path(path) / "HeartCodec-oss/model.safetensors");
  return path;
}

TEST(Convert, keeps_the_fingerprint) {
  const TemporaryFolder folder;
  const std::string once = converted(folder, DType::kBF16, DType::kF32);
  const std::string twice = converted(folder, DType::kBF16, DType::kBF16, once, "twice");
  for (const char* model : {"HeartMuLa-oss-3B", "HeartCodec-oss"}) {
    const std::string stock = model_fingerprint(fs::path(kTinyCheckpoint) / model);
    EXPECT_EQ(model_fingerprint(fs::path(once) / model), stock);
    EXPECT_EQ(model_fingerprint(fs::path(twice) / model), stock);
  }
}

TEST(Convert, is_for_one_at_a_time) {
  const TemporaryFolder folder;
  const OutputLock other(folder / "packed", "--save_path");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { converted(folder, DType::kBF16, DType::kF32); }),
              HasSubstr("another heartmula"));
}

/// What is logged while it lives.
class Log {
 public:
  Log() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(stream_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  std::string text() const { return stream_.str(); }
  int64_t lines() const {
    const std::string all = text();
    return std::count(all.begin(), all.end(), '\n');
  }

 private:
  std::ostringstream stream_;
  std::shared_ptr<spdlog::logger> before_;
};

/// The memory of a song.
MemoryPlan plan_of(const std::string& folder, DType mula, DType codec) {
  Models models(options(folder, mula, codec), CheckpointParts::kAll, nullptr);
  return plan_memory(models, {.context = 100});
}

/// For every instruction set of this machine.
class Packed : public testing::TestWithParam<std::string> {
 protected:
  Packed() { ::setenv("HEARTMULA_ISA", GetParam().c_str(), 1); }
  ~Packed() override { ::unsetenv("HEARTMULA_ISA"); }
  TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Isas, Packed, testing::ValuesIn(available_isas()),
                         [](const auto& tested) { return tested.param; });

TEST_P(Packed, the_music_is_that_of_the_stock_checkpoint) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Log log;
    const std::string packed = converted(folder_, dtype, dtype, kTinyCheckpoint, std::string(dtype_name(dtype)));
    EXPECT_EQ(music_of(packed, dtype, dtype), music_of(kTinyCheckpoint, dtype, dtype)) << dtype_name(dtype);
    EXPECT_EQ(log.text(), "") << "nothing had to be packed again";
  }
}

TEST_P(Packed, what_another_machine_packed_is_packed_again_and_makes_the_same_music) {
  for (const auto& [panel_width, k_per_group] : {std::pair{6, 4}, std::pair{2, 1}, std::pair{48, 2}}) {
    const TemporaryFolder folder;
    const std::string packed = foreign(folder, DType::kBF16, DType::kF32, panel_width, k_per_group);
    const Log log;
    EXPECT_EQ(music_of(packed, DType::kBF16, DType::kF32), music_of(kTinyCheckpoint, DType::kBF16, DType::kF32));
    EXPECT_EQ(log.lines(), 2) << "one for each model: " << log.text();
    EXPECT_THAT(log.text(), AllOf(HasSubstr(fmt::format("panels of {} by {}", panel_width, k_per_group)),
                                  HasSubstr("heartmula convert")));
  }
}

TEST_P(Packed, bf16_comes_out_of_packed_f32_as_out_of_the_stock_checkpoint) {
  const std::string packed = converted(folder_, DType::kF32, DType::kF32);
  const Log log;
  EXPECT_EQ(music_of(packed, DType::kBF16, DType::kBF16), music_of(kTinyCheckpoint, DType::kBF16, DType::kBF16));
  EXPECT_EQ(log.lines(), 2) << log.text();
  EXPECT_THAT(log.text(), AllOf(HasSubstr("packed as float32"), HasSubstr("heartmula convert")));
}

TEST(Convert, f32_from_rounded_weights_is_computed_with_a_warning) {
  const TemporaryFolder folder;
  const std::string packed = converted(folder, DType::kBF16, DType::kBF16);
  const Log log;
  const FramesAndSamples music = music_of(packed, DType::kF32, DType::kF32);
  EXPECT_EQ(log.lines(), 2) << log.text();
  EXPECT_THAT(log.text(), AllOf(HasSubstr("rounded to bfloat16"), HasSubstr("heartmula convert")));
  EXPECT_NE(music.samples, music_of(kTinyCheckpoint, DType::kF32, DType::kF32).samples);
  EXPECT_NE(music.samples, music_of(kTinyCheckpoint, DType::kBF16, DType::kBF16).samples);
}

TEST(Convert, parts_from_anywhere_become_one_checkpoint) {
  const TemporaryFolder folder;
  fs::copy(kTinyCheckpoint + "/HeartMuLa-oss-3B", folder / "singer");
  fs::copy(kTinyCheckpoint + "/HeartCodec-oss", folder / "5f3a");
  fs::copy(kTinyCheckpoint + "/tokenizer.json", folder / "words.json");
  fs::copy(kTinyCheckpoint + "/gen_config.json", folder / "gen_config.json");
  ModelOptions apart = options("", DType::kBF16, DType::kF32);
  apart.checkpoint.mula_path = (folder / "singer").string() + "/";
  apart.checkpoint.codec_path = folder / "5f3a";
  apart.checkpoint.tokenizer = folder / "words.json";
  convert_checkpoint(apart, folder / "packed", {}, nullptr);
  EXPECT_EQ(music_of(folder / "packed", DType::kBF16, DType::kF32),
            music_of(kTinyCheckpoint, DType::kBF16, DType::kF32));
}

TEST(Convert, matrices_are_used_where_they_lie) {
  const TemporaryFolder folder;
  const std::string packed = converted(folder, DType::kBF16, DType::kF32);
  const MemoryPlan in_place = plan_of(packed, DType::kBF16, DType::kF32);
  const MemoryPlan copied = plan_of(kTinyCheckpoint, DType::kBF16, DType::kF32);
  EXPECT_GT(in_place.lm->mapped, 0);
  EXPECT_GT(in_place.codec->mapped, 0);
  EXPECT_EQ(copied.lm->mapped, 0);
  EXPECT_EQ(in_place.lm->weights, copied.lm->weights) << "the same bytes, wherever they are";
  EXPECT_EQ(in_place.codec->weights, copied.codec->weights);
}

/// The data of the two weight files, without their headers.
std::vector<std::string> data_of(const std::string& folder) {
  std::vector<std::string> data;
  for (const char* part : {"HeartMuLa-oss-3B", "HeartCodec-oss"}) {
    std::ifstream file(fs::path(folder) / part / "model.safetensors", std::ios::binary);
    uint64_t header = 0;
    file.read(reinterpret_cast<char*>(&header), sizeof header);
    file.seekg(static_cast<std::streamoff>(header), std::ios::cur);
    data.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return data;
}

TEST(Convert, a_packed_checkpoint_can_be_packed_for_another_machine) {
  const TemporaryFolder folder;
  const std::string other = foreign(folder, DType::kF32, DType::kBF16, 6, 4);
  const std::string direct = converted(folder, DType::kBF16, DType::kBF16, kTinyCheckpoint, "direct");
  EXPECT_EQ(data_of(converted(folder, DType::kBF16, DType::kBF16, other, "again")), data_of(direct));
  EXPECT_EQ(data_of(converted(folder, DType::kBF16, DType::kBF16, direct, "copy")), data_of(direct));
}

TEST(Convert, rounded_weights_are_not_written_as_f32) {
  const TemporaryFolder folder;
  const std::string packed = converted(folder, DType::kBF16, DType::kF32);
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { converted(folder, DType::kF32, DType::kF32, packed, "again"); }),
              AllOf(HasSubstr("rounded to bfloat16"), HasSubstr("--mula_dtype")));
  EXPECT_EQ(folder.file_count(), 1u);
}

TEST(Convert, everything_else_is_copied) {
  const TemporaryFolder folder;
  const std::string packed = converted(folder, DType::kBF16, DType::kF32);
  size_t files = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(packed)) files += entry.is_regular_file();
  EXPECT_EQ(files, 6u);
  for (const char* name :
       {"tokenizer.json", "gen_config.json", "HeartMuLa-oss-3B/config.json", "HeartCodec-oss/config.json"}) {
    EXPECT_EQ(contents(fs::path(packed) / name), contents(fs::path(kTinyCheckpoint) / name)) << name;
    EXPECT_NE(contents(fs::path(packed) / name), "");
  }
}

TEST(Convert, progress_ends_with_all_bytes) {
  const TemporaryFolder folder;
  int64_t last = 0;
  const Converted result = convert_checkpoint(
      options(kTinyCheckpoint, DType::kBF16, DType::kF32), folder / "packed",
      [&](std::string_view stage, int64_t done, int64_t total, double) {
        EXPECT_EQ(stage, "convert");
        EXPECT_GT(done, last);
        EXPECT_LE(done, total);
        last = done;
      },
      nullptr);
  EXPECT_EQ(last, result.bytes);
  int64_t bytes = 0;
  for (const char* part : {"HeartMuLa-oss-3B", "HeartCodec-oss"}) {
    bytes += static_cast<int64_t>(fs::file_size(folder / "packed" / part / "model.safetensors"));
  }
  EXPECT_EQ(bytes, result.bytes);
}

TEST(Convert, cancelled_anywhere_it_leaves_nothing) {
  const TemporaryFolder folder;
  int64_t calls = 0;
  const auto count = [&](std::string_view, int64_t, int64_t, double) { ++calls; };
  convert_checkpoint(options(kTinyCheckpoint, DType::kBF16, DType::kF32), folder / "whole", count, nullptr);
  fs::remove_all(folder / "whole");
  for (const int64_t stop : {int64_t{1}, calls / 3, calls / 2, calls - 1}) {
    CancelToken token;
    int64_t call = 0;
    const auto cancel = [&](std::string_view, int64_t, int64_t, double) {
      if (++call == stop) token.cancel();
    };
    error_of(ErrorKind::kCancelled, [&] {
      convert_checkpoint(options(kTinyCheckpoint, DType::kBF16, DType::kF32), folder / "packed", cancel, &token);
    });
    EXPECT_EQ(folder.file_count(), 0u) << "stopped at " << stop << " of " << calls;
  }
}

TEST(Convert, what_is_there_already_is_not_touched) {
  const TemporaryFolder folder;
  folder.write("packed/song.wav", "music");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { converted(folder, DType::kBF16, DType::kF32); }),
              AllOf(HasSubstr("packed"), HasSubstr("there already")));
  EXPECT_TRUE(fs::exists(folder / "packed/song.wav"));
  EXPECT_EQ(folder.file_count(), 1u);
  fs::remove(folder / "packed/song.wav");
  EXPECT_TRUE(fs::exists(fs::path(converted(folder, DType::kBF16, DType::kF32)) / "tokenizer.json")) << "was empty";
}

TEST(Convert, a_missing_folder_and_a_broken_checkpoint_are_refused) {
  const TemporaryFolder folder;
  EXPECT_THAT(
      error_of(ErrorKind::kUser, [&] { converted(folder, DType::kBF16, DType::kF32, kTinyCheckpoint, "no/packed"); }),
      HasSubstr("there is no folder"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { converted(folder, DType::kBF16, DType::kF32, folder / "no"); }),
              HasSubstr("no such folder"));
  EXPECT_EQ(folder.file_count(), 0u);
}

}  // namespace
}  // namespace heartmula
