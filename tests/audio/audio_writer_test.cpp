#include "audio/audio_writer.h"

#include <fcntl.h>
#include <fileref.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sndfile.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <tpropertymap.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "audio/audio_reader.h"
#include "audio/mp3.h"
#include "audio/ogg.h"
#include "base/input.h"
#include "base/testing.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

struct Stereo {
  std::vector<float> left;
  std::vector<float> right;
};

/// Two tones and a little noise, so that an encoder has something to do and channels cannot be confused.
Stereo make_song(double seconds, float amplitude = 0.4f) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> noise(-0.01f, 0.01f);
  const auto count = static_cast<size_t>(seconds * kSampleRateHz);
  Stereo song{std::vector<float>(count), std::vector<float>(count)};
  for (size_t i = 0; i < count; ++i) {
    const double t = static_cast<double>(i) / kSampleRateHz;
    song.left[i] = amplitude * static_cast<float>(std::sin(2 * M_PI * 440 * t)) + noise(random);
    song.right[i] = amplitude * static_cast<float>(std::sin(2 * M_PI * 660 * t)) + noise(random);
  }
  return song;
}

Stereo read_song(const fs::path& path, int* format = nullptr) {
  SF_INFO info = {};
  SNDFILE* file = sf_open(path.c_str(), SFM_READ, &info);
  if (file == nullptr) {
    ADD_FAILURE() << path << ": " << sf_strerror(nullptr);
    return {};
  }
  EXPECT_EQ(info.samplerate, kSampleRateHz);
  EXPECT_EQ(info.channels, kChannels);
  if (format != nullptr) *format = info.format;
  Stereo song;
  std::vector<float> piece(kChannels * 4096);
  while (const sf_count_t count = sf_readf_float(file, piece.data(), 4096)) {
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      song.left.push_back(piece[2 * i]);
      song.right.push_back(piece[2 * i + 1]);
    }
  }
  sf_close(file);
  return song;
}

std::optional<std::string> request_in(const fs::path& path) {
  return read_request_json(InputBytes(path).bytes(), path.string());
}

double rms_of_difference(const std::vector<float>& a, const std::vector<float>& b, size_t offset = 0) {
  const size_t count = std::min(a.size(), b.size() - offset);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::pow(double{a[i]} - double{b[offset + i]}, 2);
  return std::sqrt(sum / static_cast<double>(count));
}

double greatest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double greatest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    greatest = std::max(greatest, std::fabs(double{a[i]} - double{b[i]}));
  }
  return greatest;
}

Tags make_tags() {
  Tags tags;
  tags.title = "Été à la plage, 夏の海, Лето, صيف 🌊";
  tags.artist = "HeartMuLa";
  tags.genre = "piano,happy";
  tags.comment = "made by a machine";
  tags.lyrics = "[Verse]\nनमस्ते दुनिया\n\n[Chorus]\n안녕 🎵🎶\nשלום\n";
  tags.seed = "18446744073709551615";
  while (tags.request_json.size() < 100'000) tags.request_json += "{\"lyrics\": \"línea 歌 🎤\"}";
  return tags;
}

std::string field(const TagLib::PropertyMap& properties, const char* key) {
  return properties.contains(key) ? properties[key].toString("|").to8Bit(true) : "";
}

void expect_tags(const fs::path& path, const Tags& tags) {
  const TagLib::FileRef reference(path.c_str());
  ASSERT_FALSE(reference.isNull());
  const TagLib::PropertyMap properties = reference.file()->properties();
  EXPECT_EQ(field(properties, "TITLE"), tags.title);
  EXPECT_EQ(field(properties, "ARTIST"), tags.artist);
  EXPECT_EQ(field(properties, "GENRE"), tags.genre);
  EXPECT_EQ(field(properties, "COMMENT"), tags.comment);
  EXPECT_EQ(field(properties, "LYRICS"), tags.lyrics);
  EXPECT_EQ(field(properties, "HEARTMULA_SEED"), tags.seed);
  EXPECT_EQ(field(properties, "HEARTMULA_REQUEST"), tags.request_json);
}

/// In pieces that are multiples of nothing.
void write_song(AudioWriter& writer, const Stereo& song, size_t piece = 12347) {
  const std::span<const float> left(song.left);
  const std::span<const float> right(song.right);
  for (size_t first = 0; first < left.size(); first += piece) {
    const size_t count = std::min(piece, left.size() - first);
    writer.write(left.subspan(first, count), right.subspan(first, count));
  }
}

struct Encoding {
  AudioFormat format;
  SampleFormat samples;
  int sndfile_format;

  bool lossless() const { return !is_lossy(format); }
  bool is_ogg() const { return format == AudioFormat::kOgg || format == AudioFormat::kOpus; }
  /// Root of the mean square of the difference; Opus shapes its noise freely.
  double loss() const { return format == AudioFormat::kOpus ? 0.03 : 0.01; }
  std::string file_name() const { return "song." + std::string(audio_format_name(format)); }
};

const Encoding kEncodings[] = {
    {AudioFormat::kWav, SampleFormat::kS16, SF_FORMAT_WAV | SF_FORMAT_PCM_16},
    {AudioFormat::kWav, SampleFormat::kS24, SF_FORMAT_WAV | SF_FORMAT_PCM_24},
    {AudioFormat::kWav, SampleFormat::kF32, SF_FORMAT_WAV | SF_FORMAT_FLOAT},
    {AudioFormat::kFlac, SampleFormat::kS16, SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
    {AudioFormat::kFlac, SampleFormat::kS24, SF_FORMAT_FLAC | SF_FORMAT_PCM_24},
    {AudioFormat::kOgg, SampleFormat::kF32, SF_FORMAT_OGG | SF_FORMAT_VORBIS},
    {AudioFormat::kOpus, SampleFormat::kF32, SF_FORMAT_OGG | SF_FORMAT_OPUS},
    {AudioFormat::kMp3, SampleFormat::kF32, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III},
};

class AudioWriterTest : public testing::TestWithParam<Encoding> {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "heartmula_audio_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path path() const { return folder_ / GetParam().file_name(); }
  AudioWriter make_writer(const fs::path& path) const {
    return AudioWriter(path, GetParam().format, GetParam().samples);
  }
  std::vector<std::string> files() const { return files_in(folder_); }
  static std::vector<std::string> files_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    return names;
  }

  /// Writes until it fails, at most `seconds`.
  void expect_no_space(const fs::path& path, double seconds) const {
    const Stereo second = make_song(1);
    try {
      AudioWriter writer = make_writer(path);
      for (double t = 0; t < seconds; ++t) write_song(writer, seconds < 1 ? make_song(seconds) : second);
      writer.finish(make_tags());
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFailure);
      EXPECT_EQ(std::string(error.what()), path.string() + ": No space left on device");
    }
  }

  fs::path folder_;
};

INSTANTIATE_TEST_SUITE_P(Encodings, AudioWriterTest, testing::ValuesIn(kEncodings), [](const auto& encoding) {
  return std::string(audio_format_name(encoding.param.format)) + "_" +
         std::string(sample_format_name(encoding.param.samples));
});

TEST_P(AudioWriterTest, samples_and_tags_survive) {
  const Stereo song = make_song(3.21);
  const Tags tags = make_tags();
  AudioWriter writer = make_writer(path());
  write_song(writer, song);
  EXPECT_FALSE(fs::exists(path()));
  writer.finish(tags);
  EXPECT_THAT(files(), testing::ElementsAre(GetParam().file_name()));

  int format = 0;
  const Stereo copy = read_song(path(), &format);
  EXPECT_EQ(format, GetParam().sndfile_format);
  ASSERT_EQ(copy.left.size(), song.left.size());
  if (GetParam().lossless()) {
    const double step = GetParam().samples == SampleFormat::kS16   ? 0x1p-15
                        : GetParam().samples == SampleFormat::kS24 ? 0x1p-23
                                                                   : 0;
    EXPECT_LE(greatest_difference(copy.left, song.left), step / 2);
    EXPECT_LE(greatest_difference(copy.right, song.right), step / 2);
  } else {
    EXPECT_LT(rms_of_difference(copy.left, song.left), GetParam().loss());
    EXPECT_LT(rms_of_difference(copy.right, song.right), GetParam().loss());
  }
  expect_tags(path(), tags);
  EXPECT_EQ(request_in(path()), tags.request_json);
}

TEST_P(AudioWriterTest, loud_samples_are_clipped_and_not_a_number_is_silent) {
  Stereo song = make_song(0.5, 2.0f);
  song.left[100] = std::numeric_limits<float>::quiet_NaN();
  song.left[5000] = std::numeric_limits<float>::infinity();
  song.right[5000] = -std::numeric_limits<float>::infinity();
  AudioWriter writer = make_writer(path());
  write_song(writer, song);
  writer.finish({});
  const Stereo copy = read_song(path());
  ASSERT_EQ(copy.left.size(), song.left.size());
  for (const float sample : copy.left) ASSERT_FALSE(std::isnan(sample));
  if (!GetParam().lossless()) return;
  EXPECT_EQ(copy.left[100], 0.0f);
  if (GetParam().samples == SampleFormat::kF32) {
    EXPECT_EQ(copy.left[5000], song.left[5000]);
    EXPECT_EQ(greatest_difference({copy.right.begin(), copy.right.begin() + 4000}, song.right), 0);
    return;
  }
  for (size_t i = 0; i < song.left.size(); ++i) {
    if (i == 100) continue;
    ASSERT_NEAR(copy.left[i], std::clamp(song.left[i], -1.0f, 1.0f), 0x1p-15) << i;
    ASSERT_NEAR(copy.right[i], std::clamp(song.right[i], -1.0f, 1.0f), 0x1p-15) << i;
  }
}

TEST_P(AudioWriterTest, an_empty_song_is_refused) {
  try {
    AudioWriter writer = make_writer(path());
    writer.write({}, {});
    writer.finish(make_tags());
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFailure);
    EXPECT_THAT(error.what(), HasSubstr("the song is empty"));
  }
  EXPECT_THAT(files(), testing::IsEmpty());
}

TEST_P(AudioWriterTest, seventy_seconds_in_one_piece) {
  const Stereo song = make_song(70);
  AudioWriter writer = make_writer(path());
  write_song(writer, song, song.left.size());
  writer.finish({});
  EXPECT_EQ(read_song(path()).left.size(), song.left.size());
}

TEST_P(AudioWriterTest, nothing_is_left_without_finish) {
  {
    std::ofstream(path()) << "the song before";
    AudioWriter writer = make_writer(path());
    write_song(writer, make_song(2));
  }
  EXPECT_THAT(files(), testing::ElementsAre(GetParam().file_name()));
  std::string contents;
  std::getline(std::ifstream(path()), contents);
  EXPECT_EQ(contents, "the song before");
}

TEST_P(AudioWriterTest, names_of_any_script) {
  const fs::path name = folder_ / ("Été 夏 'a\" 🌊 %d." + std::string(audio_format_name(GetParam().format)));
  AudioWriter writer = make_writer(name);
  write_song(writer, make_song(0.5));
  writer.finish(make_tags());
  EXPECT_EQ(read_song(name).left.size(), 24000u);
  expect_tags(name, make_tags());
}

TEST_P(AudioWriterTest, a_missing_folder_is_the_users_mistake) {
  try {
    make_writer(folder_ / "missing" / "song.wav");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    EXPECT_THAT(error.what(), HasSubstr("missing"));
  }
}

TEST_P(AudioWriterTest, the_full_device_is_reported) {
  expect_no_space("/dev/full", 20);
  // Also when all of the song fits into what is held back.
  expect_no_space("/dev/full", 0.005);
}

TEST_P(AudioWriterTest, a_full_disk_is_reported_at_whatever_place) {
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  // A limit within the first buffers, in the middle of the song, and one that only the tags exceed.
  for (const char* size : {"size=8k", "size=64k", "size=256k"}) {
    if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, size) != 0) GTEST_SKIP() << "mount is not permitted here";
    expect_no_space(disk / GetParam().file_name(), 60);
    EXPECT_THAT(files_in(disk), testing::IsEmpty()) << size;
    ASSERT_EQ(::umount(disk.c_str()), 0);
  }
}

TEST_P(AudioWriterTest, a_disk_that_has_no_room_for_the_tags) {
  const Stereo song = make_song(2);
  {
    AudioWriter writer = make_writer(path());
    write_song(writer, song);
    writer.finish({});
  }
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  const std::string size = "size=" + std::to_string((fs::file_size(path()) + 40'000) / 4096 * 4096);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, size.c_str()) != 0) GTEST_SKIP() << "mount is not permitted here";
  expect_no_space(disk / GetParam().file_name(), 2);
  EXPECT_THAT(files_in(disk), testing::IsEmpty());
  ASSERT_EQ(::umount(disk.c_str()), 0);
}

/// What a reader at the other end of a named pipe gets.
std::string through_pipe(const fs::path& pipe, const std::function<void()>& write) {
  EXPECT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::string bytes;
  std::thread reader([&] {
    std::ifstream file(pipe, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  });
  write();
  reader.join();
  return bytes;
}

TEST_P(AudioWriterTest, a_pipe_gets_a_valid_stream) {
  for (const double seconds : {0.005, 5.0}) {
    const Stereo song = make_song(seconds);
    const fs::path pipe = folder_ / "pipe";
    const std::string bytes = through_pipe(pipe, [&] {
      AudioWriter writer = make_writer(pipe);
      write_song(writer, song);
      writer.finish(make_tags());
    });
    EXPECT_TRUE(fs::is_fifo(pipe));
    fs::remove(pipe);
    std::ofstream(path(), std::ios::binary) << bytes;
    const Stereo copy = read_song(path());
    if (GetParam().lossless()) {
      ASSERT_EQ(copy.left.size(), song.left.size());
      EXPECT_LE(greatest_difference(copy.left, song.left), 0x1p-16);
      EXPECT_LE(greatest_difference(copy.right, song.right), 0x1p-16);
    } else {
      // Without a header that tells the encoder's delay, an MP3 begins with it.
      ASSERT_GE(copy.left.size(), song.left.size());
      EXPECT_LE(copy.left.size(), song.left.size() + 5 * 1152);
    }
  }
}

TEST_P(AudioWriterTest, standard_output_may_be_a_file_that_is_appended_to) {
  const fs::path log = folder_ / "out";
  std::ofstream(log) << "before:";
  const int saved = ::dup(STDOUT_FILENO);
  const int file = ::open(log.c_str(), O_WRONLY | O_APPEND);
  ASSERT_GE(::dup2(file, STDOUT_FILENO), 0);
  {
    AudioWriter writer = make_writer("/dev/stdout");
    write_song(writer, make_song(1));
    writer.finish({});
  }
  ::dup2(saved, STDOUT_FILENO);
  ::close(saved);
  ::close(file);
  std::ifstream stream(log, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  ASSERT_EQ(bytes.substr(0, 7), "before:");
  std::ofstream(path(), std::ios::binary) << bytes.substr(7);
  EXPECT_GE(read_song(path()).left.size(), size_t{kSampleRateHz});
}

TEST_P(AudioWriterTest, standard_output_that_is_a_file_gets_its_final_header) {
  const fs::path out = folder_ / "out";
  std::ofstream(out) << "before:";
  const int saved = ::dup(STDOUT_FILENO);
  const int file = ::open(out.c_str(), O_WRONLY);
  ASSERT_EQ(::lseek(file, 0, SEEK_END), 7);
  ASSERT_GE(::dup2(file, STDOUT_FILENO), 0);
  const Stereo song = make_song(1);
  {
    AudioWriter writer = make_writer("/dev/stdout");
    write_song(writer, song);
    writer.finish({});
  }
  EXPECT_EQ(::write(STDOUT_FILENO, ":after", 6), 6);
  ::dup2(saved, STDOUT_FILENO);
  ::close(saved);
  ::close(file);
  const std::string bytes = contents(out);
  ASSERT_EQ(bytes.substr(0, 7), "before:");
  ASSERT_EQ(bytes.substr(bytes.size() - 6), ":after");
  const std::string written = bytes.substr(7, bytes.size() - 13);
  std::ofstream(path(), std::ios::binary) << written;
  SF_INFO info = {};
  SNDFILE* opened = sf_open(path().c_str(), SFM_READ, &info);
  ASSERT_NE(opened, nullptr);
  EXPECT_EQ(info.frames, static_cast<sf_count_t>(song.left.size()));
  sf_close(opened);
  if (GetParam().format != AudioFormat::kWav) return;
  uint32_t riff = 0;
  std::memcpy(&riff, written.data() + 4, sizeof riff);
  EXPECT_EQ(riff, written.size() - 8);
}

TEST_P(AudioWriterTest, a_reader_that_goes_away_is_reported) {
  ::signal(SIGPIPE, SIG_IGN);
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread reader([&] { ::close(::open(pipe.c_str(), O_RDONLY)); });
  try {
    AudioWriter writer = make_writer(pipe);
    reader.join();
    for (int i = 0; i < 100; ++i) write_song(writer, make_song(1));
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFailure);
    EXPECT_EQ(std::string(error.what()), pipe.string() + ": Broken pipe");
  }
}

TEST_P(AudioWriterTest, the_same_song_is_the_same_file) {
  const auto write_one = [&](double seconds) {
    AudioWriter writer = make_writer(path());
    write_song(writer, make_song(seconds));
    writer.finish(make_tags());
    return contents(path());
  };
  const std::string once = write_one(2);
  EXPECT_EQ(write_one(2), once);
  // Two Ogg streams of one number cannot be joined to one file.
  const std::string other = write_one(3);
  if (!GetParam().is_ogg()) return;
  EXPECT_NE(other.substr(14, 4), once.substr(14, 4));
}

TEST_P(AudioWriterTest, empty_tags_leave_nothing_but_music) {
  AudioWriter writer = make_writer(path());
  write_song(writer, make_song(1));
  writer.finish({});
  const TagLib::FileRef reference(path().c_str());
  ASSERT_FALSE(reference.isNull());
  EXPECT_TRUE(reference.file()->properties().isEmpty()) << reference.file()->properties().toString().to8Bit();
  const std::string bytes = contents(path());
  for (const char* word : {"heartmula", "HeartMuLa", "HEARTMULA", "ENCODER", "ISFT", "libsndfile"}) {
    EXPECT_THAT(bytes, Not(HasSubstr(word)));
  }
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { request_in(path()); }), HasSubstr("holds no request"));
}

TEST_P(AudioWriterTest, a_file_that_was_cut_short_is_told) {
  AudioWriter writer = make_writer(path());
  write_song(writer, make_song(3));
  writer.finish({});
  const std::string bytes = contents(path());
  testing::internal::CaptureStdout();
  read_audio(path());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  for (const double part : {0.4, 0.9}) {
    const auto size = static_cast<size_t>(part * static_cast<double>(bytes.size()));
    std::ofstream(path(), std::ios::binary) << bytes.substr(0, size);
    testing::internal::CaptureStdout();
    const Audio audio = read_audio(path());
    EXPECT_LT(audio.duration_s(), 3);
    EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("is cut short after"));
  }
}

TEST(Mp3Frames, a_file_that_ends_within_one_is_cut) {
  const fs::path path = fs::temp_directory_path() / ("heartmula_frames_" + std::to_string(::getpid()) + ".mp3");
  {
    AudioWriter writer(path, AudioFormat::kMp3, SampleFormat::kF32);
    write_song(writer, make_song(1));
    Tags tags;
    tags.title = "tagged";
    writer.finish(tags);
  }
  const std::string bytes = contents(path);
  fs::remove(path);
  const auto is_cut = [](std::string_view file) { return is_cut_mp3(std::as_bytes(std::span(file))); };
  EXPECT_FALSE(is_cut(bytes));
  EXPECT_FALSE(is_cut(bytes + "TAG" + std::string(125, ' '))) << "an older tag at the end";
  EXPECT_FALSE(is_cut("RIFF"));
  EXPECT_FALSE(is_cut(""));
  EXPECT_TRUE(is_cut(bytes.substr(0, 30))) << "within the tag";
  int whole = 0;
  for (size_t size = bytes.size() - 2000; size < bytes.size(); ++size) whole += !is_cut(bytes.substr(0, size));
  EXPECT_GT(whole, 0);
  EXPECT_LE(whole, 20) << "of 2000 places only those between two frames";
}

TEST(OggPages, a_file_that_ends_between_two_pages_is_cut) {
  const fs::path path = fs::temp_directory_path() / ("heartmula_pages_" + std::to_string(::getpid()) + ".ogg");
  {
    AudioWriter writer(path, AudioFormat::kOgg, SampleFormat::kF32);
    write_song(writer, make_song(3));
    writer.finish({});
  }
  const std::string bytes = contents(path);
  fs::remove(path);
  const auto is_cut = [](std::string_view file) { return is_cut_ogg(std::as_bytes(std::span(file))); };
  EXPECT_FALSE(is_cut(bytes));
  EXPECT_FALSE(is_cut(bytes + bytes)) << "two songs, one behind the other";
  EXPECT_FALSE(is_cut("RIFF"));
  int pages = 0;
  for (size_t at = bytes.find("OggS", 1); at != std::string::npos; at = bytes.find("OggS", at + 1), ++pages) {
    EXPECT_TRUE(is_cut(bytes.substr(0, at))) << at;
    EXPECT_TRUE(is_cut(bytes.substr(0, at + 20))) << at;
    EXPECT_TRUE(is_cut(bytes + bytes.substr(0, at))) << at;
  }
  EXPECT_GT(pages, 2);
  EXPECT_TRUE(is_cut(bytes.substr(0, bytes.size() - 1)));
}

TEST(ReadRequestJson, of_something_that_is_no_audio) {
  const fs::path path = fs::temp_directory_path() / ("heartmula_request_" + std::to_string(::getpid()));
  for (const char* text : {"", "{}", "OggS", "RIFF", "\xFF\xFEl\0a\0"}) {
    std::ofstream(path, std::ios::binary) << text;
    EXPECT_EQ(request_in(path), std::nullopt) << text;
  }
  for (const char* text : {"fLaC", "ID3\x03", "RIFF\x10zzzWAVEfmt "}) {
    std::ofstream(path, std::ios::binary) << text;
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { request_in(path); }), HasSubstr("holds no request")) << text;
  }
  fs::remove(path);
}

}  // namespace
}  // namespace heartmula
