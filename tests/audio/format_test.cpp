#include "audio/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Format, follows_from_the_extension) {
  EXPECT_EQ(audio_format_of("song.wav"), AudioFormat::kWav);
  EXPECT_EQ(audio_format_of("a.b/SONG.FLAC"), AudioFormat::kFlac);
  EXPECT_EQ(audio_format_of("歌.mp3.oga"), AudioFormat::kOgg);
  EXPECT_EQ(audio_format_of("song.Opus"), AudioFormat::kOpus);
  EXPECT_EQ(audio_format_of("song.mp3"), AudioFormat::kMp3);
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { audio_format_of("song.txt"); }),
              AllOf(HasSubstr("song.txt"), HasSubstr(".opus")));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { audio_format_of("/dev/stdout"); }), HasSubstr("--format"));
}

TEST(Format, that_nothing_here_encodes_is_told_with_one_that_does) {
  EXPECT_EQ(error_of(ErrorKind::kUser, [] { audio_format_of("a/Song.M4A"); }),
            "a/Song.M4A: .m4a files cannot be written: use opus or mp3");
  for (const std::string name : {"aac", "wma", "aiff", "mp4"}) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { audio_format_of("song." + name); }),
                HasSubstr("cannot be written: use"));
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { parse_audio_format(name); }), HasSubstr("cannot be written: use"));
  }
}

TEST(Format, has_a_name) {
  for (const AudioFormat format :
       {AudioFormat::kWav, AudioFormat::kFlac, AudioFormat::kOgg, AudioFormat::kOpus, AudioFormat::kMp3}) {
    EXPECT_EQ(parse_audio_format(audio_format_name(format)), format);
  }
  for (const SampleFormat format : {SampleFormat::kS16, SampleFormat::kS24, SampleFormat::kF32}) {
    EXPECT_EQ(parse_sample_format(sample_format_name(format)), format);
  }
  EXPECT_EQ(parse_audio_format("MP3"), AudioFormat::kMp3);
  EXPECT_EQ(parse_audio_format("oga"), AudioFormat::kOgg);
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_audio_format("tape"); }),
              AllOf(HasSubstr("'tape'"), HasSubstr("ogg, opus")));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_sample_format("s32"); }), HasSubstr("s16, s24 or f32"));
}

TEST(Format, refuses_samples_that_a_format_cannot_hold) {
  EXPECT_EQ(resolve_sample_format(AudioFormat::kWav, std::nullopt), SampleFormat::kS16);
  EXPECT_EQ(resolve_sample_format(AudioFormat::kWav, SampleFormat::kF32), SampleFormat::kF32);
  EXPECT_EQ(resolve_sample_format(AudioFormat::kFlac, SampleFormat::kS24), SampleFormat::kS24);
  EXPECT_EQ(resolve_sample_format(AudioFormat::kMp3, std::nullopt), SampleFormat::kF32);
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { resolve_sample_format(AudioFormat::kFlac, SampleFormat::kF32); }),
              HasSubstr("flac"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { resolve_sample_format(AudioFormat::kMp3, SampleFormat::kS24); }),
              HasSubstr("mp3"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { resolve_sample_format(AudioFormat::kOgg, SampleFormat::kF32); }),
              HasSubstr("ogg"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { resolve_sample_format(AudioFormat::kOpus, SampleFormat::kS16); }),
              HasSubstr("opus"));
}

}  // namespace
}  // namespace heartmula
