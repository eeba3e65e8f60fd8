// What lies in the files: format, samples and tags.
#include <fileref.h>
#include <sndfile.h>
#include <tpropertymap.h>

#include <cmath>

#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kWav16 = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
constexpr int kFlac16 = SF_FORMAT_FLAC | SF_FORMAT_PCM_16;
constexpr int kVorbis = SF_FORMAT_OGG | SF_FORMAT_VORBIS;
constexpr int kOpus = SF_FORMAT_OGG | SF_FORMAT_OPUS;
constexpr int kMp3 = SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III;

struct Audio {
  int format = 0;
  std::vector<float> samples;  // of both channels in turn
};

Audio audio_of(const fs::path& path) {
  SF_INFO info = {};
  SNDFILE* file = sf_open(path.c_str(), SFM_READ, &info);
  if (file == nullptr) {
    ADD_FAILURE() << path << ": " << sf_strerror(nullptr);
    return {};
  }
  EXPECT_EQ(info.samplerate, 48000);
  EXPECT_EQ(info.channels, 2);
  Audio audio{info.format, std::vector<float>(static_cast<size_t>(2 * info.frames))};
  EXPECT_EQ(sf_readf_float(file, audio.samples.data(), info.frames), info.frames);
  sf_close(file);
  return audio;
}

/// TagLib goes by the extension, so it gets the one of the file's format.
std::string field(const fs::path& path, int format, const char* key) {
  const int container = format & SF_FORMAT_TYPEMASK;
  const fs::path copy = path.string() + (container == SF_FORMAT_WAV    ? ".copy.wav"
                                         : container == SF_FORMAT_FLAC ? ".copy.flac"
                                         : format == kOpus             ? ".copy.opus"
                                         : container == SF_FORMAT_OGG  ? ".copy.ogg"
                                                                       : ".copy.mp3");
  fs::copy_file(path, copy, fs::copy_options::overwrite_existing);
  const TagLib::FileRef reference(copy.c_str());
  if (reference.isNull()) {
    ADD_FAILURE() << path << " has no tags";
    return {};
  }
  const TagLib::PropertyMap properties = reference.file()->properties();
  return properties.contains(key) ? properties[key].toString("|").to8Bit(true) : "";
}

const std::string kTitle = "Été à la plage, 夏の海 🌊";

/// The same song again and again.
Arguments song_to(const fs::path& path, const Arguments& more) {
  return generate(path,
                  Arguments{"--model_path", endless_checkpoint(), "--title", kTitle, "--progress", "none"} + more);
}

const Audio& exact_song() {
  static const TemporaryFolder folder;
  static const Audio audio = [] {
    succeeds(song_to(folder / "song.wav", {"--sample_format", "f32"}));
    return audio_of(folder / "song.wav");
  }();
  return audio;
}

struct Case {
  std::string name;
  Arguments flags;
  int format;
};

class Formats : public testing::TestWithParam<Case> {};

TEST_P(Formats, hold_the_song_and_its_tags) {
  const auto& [name, flags, format] = GetParam();
  const TemporaryFolder folder;
  const fs::path song = folder / name;
  succeeds(song_to(song, flags));
  const Audio audio = audio_of(song);
  EXPECT_EQ(audio.format & ~SF_FORMAT_ENDMASK, format);
  const std::vector<float>& exact = exact_song().samples;
  ASSERT_EQ(exact.size(), 2u * 3840 * 11);

  const int container = format & SF_FORMAT_TYPEMASK;
  if (container == SF_FORMAT_WAV || container == SF_FORMAT_FLAC) {
    const int subtype = format & SF_FORMAT_SUBMASK;
    const float step = subtype == SF_FORMAT_PCM_16 ? 0x1p-15f : subtype == SF_FORMAT_PCM_24 ? 0x1p-23f : 0.0f;
    ASSERT_EQ(audio.samples.size(), exact.size());
    for (size_t i = 0; i < exact.size(); ++i) {
      if (step > 0 && std::fabs(exact[i]) >= 1 - step) continue;  // clipped
      ASSERT_NEAR(audio.samples[i], exact[i], 0.51f * step) << i;
    }
  } else {
    // Lossy, perhaps with silence before and after: the length and the power are those of the song.
    EXPECT_GE(audio.samples.size(), exact.size());
    EXPECT_LE(audio.samples.size(), exact.size() + 2 * 4800);
    double power = 0;
    double exact_power = 0;
    for (const float sample : audio.samples) power += sample * sample;
    for (const float sample : exact) exact_power += std::pow(std::clamp(sample, -1.0f, 1.0f), 2);
    EXPECT_GT(power, 0.3 * exact_power);
    EXPECT_LT(power, 1.5 * exact_power);
  }

  const json sidecar = json_of(song.string() + ".json");
  EXPECT_EQ(field(song, format, "TITLE"), kTitle);
  EXPECT_EQ(field(song, format, "LYRICS"), "[verse]\nla la");
  EXPECT_EQ(field(song, format, "GENRE"), "piano,happy");
  EXPECT_EQ(field(song, format, "HEARTMULA_SEED"), "1");
  const json request = json::parse(field(song, format, "HEARTMULA_REQUEST"));
  for (const auto& item : request.items()) EXPECT_EQ(item.value(), sidecar["request"][item.key()]) << item.key();
  for (const char* music : {"lyrics", "tags", "seed", "topk", "codec_steps"}) EXPECT_TRUE(request.contains(music));
  for (const char* machine : {"model_path", "save_path", "threads"}) EXPECT_FALSE(request.contains(machine));
}

INSTANTIATE_TEST_SUITE_P(
    All, Formats,
    testing::Values(Case{"song.wav", {}, kWav16}, Case{"song.WAVE", {}, kWav16}, Case{"song.flac", {}, kFlac16},
                    Case{"song.ogg", {}, kVorbis}, Case{"song.oga", {}, kVorbis}, Case{"song.opus", {}, kOpus},
                    Case{"song.Mp3", {}, kMp3}, Case{"wav_by_flag", {"--format", "wav"}, kWav16},
                    Case{"flac_by_flag.wav", {"--format", "FLAC"}, kFlac16},
                    Case{"ogg_by_flag.mp3", {"--format", "ogg"}, kVorbis},
                    Case{"opus_by_flag.wav", {"--format", "opus"}, kOpus},
                    Case{"mp3_by_flag", {"--format", "mp3"}, kMp3}, Case{"s16.wav", {"--sample_format", "s16"}, kWav16},
                    Case{"s24.wav", {"--sample_format", "s24"}, SF_FORMAT_WAV | SF_FORMAT_PCM_24},
                    Case{"f32.wav", {"--sample_format", "f32"}, SF_FORMAT_WAV | SF_FORMAT_FLOAT},
                    Case{"s24.flac", {"--sample_format", "s24"}, SF_FORMAT_FLAC | SF_FORMAT_PCM_24}),
    [](const auto& tested) {
      std::string name = tested.param.name;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

TEST(Formats, that_cannot_hold_what_is_asked_are_refused) {
  const TemporaryFolder folder;
  for (const auto& [name, sample_format] :
       {std::pair("song.flac", "f32"), {"song.ogg", "s16"}, {"song.opus", "s16"}, {"song.mp3", "f32"}}) {
    EXPECT_THAT(refused(song_to(folder / name, {"--sample_format", sample_format, "--progress", "lines"}), 2),
                AllOf(HasSubstr(sample_format), HasSubstr(std::string(name).substr(5))));
  }
  EXPECT_EQ(folder.file_count(), 0u);
}

TEST(Formats, that_nothing_here_encodes_are_refused_with_one_that_does) {
  const TemporaryFolder folder;
  EXPECT_THAT(refused(song_to(folder / "song.m4a", {"--progress", "lines"}), 2), HasSubstr("use opus or mp3"));
  EXPECT_EQ(folder.file_count(), 0u);
}

TEST(Formats, the_same_song_is_the_same_file) {
  const TemporaryFolder folder;
  for (const std::string name : {"song.wav", "song.flac", "song.ogg", "song.opus", "song.mp3"}) {
    const fs::path song = folder / name;
    succeeds(song_to(song, {}));
    const std::string first = contents(song);
    succeeds(song_to(song, {}));
    EXPECT_EQ(contents(song), first) << name;
  }
}

}  // namespace
}  // namespace heartmula
