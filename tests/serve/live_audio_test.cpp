#include "serve/live_audio.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <memory>

#include "base/error.h"

namespace heartmula {
namespace {

class LiveAudio : public testing::Test {
 protected:
  LiveAudio() {
    std::string pattern = (std::filesystem::temp_directory_path() / "heartmula_live_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~LiveAudio() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path path() const { return folder_ / "song.s16"; }
  static std::vector<int16_t> samples(std::string_view bytes) {
    std::vector<int16_t> result(bytes.size() / 2);
    std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  }

  std::filesystem::path folder_;
};

TEST_F(LiveAudio, is_heard_as_it_grows_and_to_its_end) {
  auto writer = std::make_unique<LiveAudioWriter>(path());
  const auto reader = LiveAudioReader::open(path());
  ASSERT_TRUE(reader);
  EXPECT_TRUE(reader->read().empty());
  writer->write(std::vector<float>{0.5f, -0.25f}, std::vector<float>{0.0f, 1.0f});
  EXPECT_EQ(samples(reader->read()), (std::vector<int16_t>{16384, 0, -8192, 32767}));
  EXPECT_TRUE(reader->read().empty());
  EXPECT_FALSE(reader->is_over());
  writer->write(std::vector<float>{2.0f}, std::vector<float>{-2.0f});
  writer.reset();
  EXPECT_TRUE(reader->is_over());
  EXPECT_EQ(samples(reader->read()), (std::vector<int16_t>{32767, -32768}));  // what came before the end is not lost
  EXPECT_FALSE(LiveAudioReader::open(path()));
}

TEST_F(LiveAudio, a_song_that_is_begun_anew_goes_on_where_the_listener_is) {
  const std::vector<float> zeros(100, 0.0f);
  auto writer = std::make_unique<LiveAudioWriter>(path());
  writer->write(zeros, zeros);
  const auto reader = LiveAudioReader::open(path());
  EXPECT_EQ(reader->read().size(), 400u);
  std::filesystem::copy_file(path(), folder_ / "kept");
  LiveAudioWriter again(path());  // as after a killed program: the file is there still
  EXPECT_TRUE(reader->read().empty());
  again.write(zeros, zeros);
  EXPECT_TRUE(reader->read().empty());  // heard already
  again.write(std::vector<float>{0.5f}, std::vector<float>{0.5f});
  EXPECT_EQ(samples(reader->read()), (std::vector<int16_t>{16384, 16384}));
}

TEST_F(LiveAudio, says_where_it_cannot_write) {
  EXPECT_THROW(LiveAudioWriter(folder_ / "missing" / "song"), Error);
}

TEST(WavHeader, is_that_of_endless_cd_like_sound) {
  const std::string header = endless_wav_header();
  ASSERT_EQ(header.size(), 44u);
  EXPECT_EQ(header.substr(0, 4), "RIFF");
  EXPECT_EQ(header.substr(8, 8), "WAVEfmt ");
  const auto number = [&](size_t at, int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; ++i)
      value |= static_cast<uint32_t>(static_cast<unsigned char>(header[at + i])) << (8 * i);
    return value;
  };
  EXPECT_EQ(number(20, 2), 1u);       // PCM
  EXPECT_EQ(number(22, 2), 2u);       // channels
  EXPECT_EQ(number(24, 4), 48000u);   // samples a second
  EXPECT_EQ(number(28, 4), 192000u);  // bytes a second
  EXPECT_EQ(number(32, 2), 4u);       // bytes of a sample of both channels
  EXPECT_EQ(number(34, 2), 16u);      // bits
  EXPECT_EQ(header.substr(36, 4), "data");
}

}  // namespace
}  // namespace heartmula
