#include "measure/song_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include <algorithm>
#include <set>

#include "base/testing.h"
#include "measure/signals.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr SongPictureLayout kLayout = SongPicture::kLayout;

/// A PNG file as libpng reads it.
struct Pixels {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;

  explicit Pixels(const fs::path& path) {
    png_image image = {};
    image.version = PNG_IMAGE_VERSION;
    EXPECT_NE(png_image_begin_read_from_file(&image, path.c_str()), 0) << image.message;
    image.format = PNG_FORMAT_RGB;
    width = static_cast<int>(image.width);
    height = static_cast<int>(image.height);
    rgb.resize(PNG_IMAGE_SIZE(image));
    EXPECT_NE(png_image_finish_read(&image, nullptr, rgb.data(), 0, nullptr), 0) << image.message;
  }

  Colour at(int x, int y) const {
    const size_t at = 3 * static_cast<size_t>(y * width + x);
    return {rgb[at], rgb[at + 1], rgb[at + 2]};
  }
  /// CIE lightness, from 0 to 100.
  double lightness(int x, int y) const { return lightness_of(at(x, y)); }
  static double lightness_of(const Colour& colour) {
    constexpr std::array<double, 3> kWeights = {0.2126, 0.7152, 0.0722};
    double luminance = 0;
    for (size_t i = 0; i < 3; ++i) {
      const double value = colour[i] / 255.0;
      luminance += kWeights[i] * (value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4));
    }
    return luminance > 0.008856 ? 116 * std::cbrt(luminance) - 16 : 903.3 * luminance;
  }
};

/// The picture of a song that comes in pieces of odd sizes.
Pixels picture_of(const Samples& left, const Samples& right) {
  const TemporaryFolder folder;
  SongPicture picture(folder / "song.png");
  for (size_t at = 0; at < left.size();) {
    const size_t count = std::min<size_t>(7777, left.size() - at);
    picture.add(std::span(left).subspan(at, count), std::span(right).subspan(at, count));
    at += count;
  }
  picture.write();
  EXPECT_EQ(folder.file_count(), 1u);
  return Pixels(folder / "song.png");
}

int brightest_row(const Pixels& pixels, int column) {
  int best = 0;
  for (int row = 0; row < kLayout.spectrogram_rows; ++row) {
    const auto lightness = [&](int r) { return pixels.lightness(kLayout.left + column, kLayout.spectrogram_top + r); };
    if (lightness(row) > lightness(best)) best = row;
  }
  return best;
}

TEST(SongPicture, a_sine_is_bright_where_the_axis_says_its_frequency) {
  for (const double hz : {200.0, 1000.0, 5000.0, 15000.0}) {
    const Samples wave = sine(0.5, hz, 6);
    const Pixels pixels = picture_of(wave, wave);
    ASSERT_EQ(pixels.width, 1600);
    ASSERT_EQ(pixels.height, 600);
    for (const int column : {10, 700, kLayout.columns - 10}) {
      const int row = brightest_row(pixels, column);
      const double bin_hz = 48000.0 / 4096;
      EXPECT_LE(kLayout.low_hz(row) - bin_hz, hz) << row;
      EXPECT_GE(kLayout.high_hz(row) + bin_hz, hz) << row;
      // The axis has its mark in the row of this frequency.
      const int mark = kLayout.spectrogram_top + kLayout.row_of_hz(hz);
      if (hz < 15000) {
        EXPECT_GT(pixels.lightness(kLayout.left - 4, mark), 60) << hz;
      }
    }
  }
}

TEST(SongPicture, time_runs_evenly_from_left_to_right) {
  // Silence, and a tone from second 30 to second 40 of 60.
  Samples wave(60 * 48000);
  const Samples tone = sine(0.5, 1000, 10);
  std::copy(tone.begin(), tone.end(), wave.begin() + 30 * 48000);
  const Pixels pixels = picture_of(wave, wave);
  const int row = kLayout.spectrogram_top + kLayout.row_of_hz(1000);
  const int middle = kLayout.wave_top + kLayout.wave_rows / 2;
  const int quarter = kLayout.wave_rows / 4;
  for (int column = 0; column < kLayout.columns; ++column) {
    const double second = 60 * (column + 0.5) / kLayout.columns;
    if (std::min(std::fabs(second - 30), std::fabs(second - 40)) < 0.15) continue;
    const bool sounds = second > 30 && second < 40;
    EXPECT_EQ(pixels.lightness(kLayout.left + column, row) > 60, sounds) << second;
    EXPECT_EQ(pixels.lightness(kLayout.left + column, middle - quarter + 2) > 50, sounds) << second;
    EXPECT_EQ(pixels.lightness(kLayout.left + column, middle + quarter - 2) > 50, sounds) << second;
    EXPECT_LT(pixels.lightness(kLayout.left + column, middle - quarter - 4), 30) << second;
  }
}

TEST(SongPicture, levels_are_80_dB_from_black_to_yellow) {
  // A tone in one channel each: 0 dB is a sine in both, so these are at -9 and -49 dB, under a top of 0 dB.
  const Samples left = sine(0.5, 1000, 5);
  const Samples right = sine(0.005, 6000, 5);
  const Pixels pixels = picture_of(left, right);
  const auto colour_at = [&](double hz) {
    return pixels.at(kLayout.left + 700, kLayout.spectrogram_top + kLayout.row_of_hz(hz));
  };
  const auto level_db = [](double amplitude) { return 20 * std::log10(amplitude) - 10 * std::log10(2); };
  const auto expected = [&](double amplitude) {
    return colour_of_level(1 + level_db(amplitude) / SongPicture::kRangeDb);
  };
  for (const auto& [hz, amplitude] : {std::pair(1000, 0.5), {6000, 0.005}}) {
    EXPECT_NEAR(Pixels::lightness_of(colour_at(hz)), Pixels::lightness_of(expected(amplitude)), 3) << hz;
  }
  EXPECT_EQ(colour_at(18000), colour_of_level(0));
}

TEST(SongPicture, a_song_of_any_length_fits_the_picture) {
  for (const size_t frames : {size_t{1}, size_t{100}, size_t{4096}, size_t{48000 * 400}}) {
    const Samples wave = noise(0.1, frames, 1);
    const Pixels pixels = picture_of(wave, wave);
    const int row = kLayout.spectrogram_top + kLayout.row_of_hz(3000);
    if (frames < 4096) continue;
    for (const int column : {0, kLayout.columns / 2, kLayout.columns - 1}) {
      EXPECT_GT(pixels.lightness(kLayout.left + column, row), 30) << frames << " " << column;
    }
  }
}

TEST(SongPicture, silence_is_black_and_numbers_that_are_none_do_no_harm) {
  const Pixels silence = picture_of(Samples(48000), Samples(48000));
  EXPECT_EQ(silence.at(kLayout.left + 5, kLayout.spectrogram_top + 5), colour_of_level(0));
  Samples broken = sine(0.5, 1000, 4);
  broken[100] = NAN;
  broken[200] = INFINITY;
  EXPECT_GT(
      picture_of(broken, broken).lightness(kLayout.left + 1000, kLayout.spectrogram_top + kLayout.row_of_hz(1000)), 60);
}

TEST(SongPicture, a_place_where_it_cannot_be_is_told_at_once) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { SongPicture(folder / "song.jpg"); }), HasSubstr(".png"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { SongPicture(folder / "nowhere/song.png"); }), HasSubstr("nowhere"));
  fs::create_directory(folder / "folder.png");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { SongPicture(folder / "folder.png"); }), HasSubstr("folder"));
  EXPECT_EQ(folder.file_count(), 1u);
}

TEST(SongPicture, a_full_disk_is_a_failure) {
  const TemporaryFolder folder;
  fs::create_symlink("/dev/full", folder / "song.png");
  SongPicture picture(folder / "song.png");
  const Samples wave = sine(0.5, 1000, 0.1);
  picture.add(wave, wave);
  EXPECT_THAT(error_of(ErrorKind::kFailure, [&] { picture.write(); }), HasSubstr("No space left"));
}

TEST(ColourMap, lightness_rises_in_equal_steps) {
  std::set<Colour> colours;
  double before = -1;
  for (int i = 0; i <= 20; ++i) {
    const Colour colour = colour_of_level(i / 20.0);
    const double lightness = Pixels::lightness_of(colour);
    EXPECT_GT(lightness, before) << i;
    if (i > 0) {
      EXPECT_NEAR(lightness - before, 5, i > 2 ? 1.5 : 3.0) << i;
    }
    before = lightness;
    colours.insert(colour);
  }
  EXPECT_EQ(colours.size(), 21u);
  EXPECT_LT(Pixels::lightness_of(colour_of_level(-1)), 3);
  EXPECT_GT(Pixels::lightness_of(colour_of_level(2)), 90);
}

}  // namespace
}  // namespace heartmula
