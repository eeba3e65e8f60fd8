// A song as a picture: its wave, and below it its spectrogram.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "base/file.h"
#include "measure/picture.h"
#include "measure/spectrum.h"

namespace heartmula {

/// Where the parts of the picture lie, in pixels.
struct SongPictureLayout {
  int width = 1600;
  int height = 600;
  int left = 72;  ///< of wave and spectrogram, which have the same columns
  int columns = 1440;
  int wave_top = 12;
  int wave_rows = 121;
  int spectrogram_top = 145;
  int spectrogram_rows = 420;

  /// The row, from the top of the spectrogram, whose middle is nearest to a frequency. Rows are equal steps in mel.
  int row_of_hz(double hz) const;
  /// Lower and upper end of a row, in hertz.
  double low_hz(int row) const;
  double high_hz(int row) const;

  static constexpr double kTopHz = 20000;
};

/// Items in order; whenever there are too many, neighbours become one.
template <typename Item>
class Condensed {
 public:
  explicit Condensed(size_t most) : most_(most) {}

  void add(const Item& item) {
    if (in_last_ == 0) {
      items_.push_back(item);
    } else {
      items_.back().merge(item);
    }
    ++count_;
    if (++in_last_ < each_) return;
    in_last_ = 0;
    if (items_.size() < most_) return;
    for (size_t i = 0; i < items_.size() / 2; ++i) {
      items_[2 * i].merge(items_[2 * i + 1]);
      if (i > 0) items_[i] = std::move(items_[2 * i]);
    }
    items_.resize(items_.size() / 2);
    each_ *= 2;
  }

  /// How many were added.
  int64_t count() const { return count_; }
  /// What the part of all that was added between the fractions `begin` and `end` lies in, at least one.
  std::span<const Item> part(double begin, double end) const {
    const auto items = static_cast<double>(count_) / static_cast<double>(each_);
    const auto first = std::min(static_cast<size_t>(begin * items), items_.size() - 1);
    const auto last = std::min(static_cast<size_t>(std::ceil(end * items)), items_.size());
    return std::span(items_).subspan(first, std::max(last, first + 1) - first);
  }

 private:
  size_t most_;  // even
  std::vector<Item> items_;
  int64_t each_ = 1;  // of what was added are an item
  int64_t in_last_ = 0;
  int64_t count_ = 0;
};

/// Takes a stereo song at 48 kHz piece by piece, of any length, in about 10 MB.
///
/// Wave: least and greatest sample of both channels in each column, full scale from edge to edge. Spectrogram: power of
/// both channels (mean), Hann windows of 4096 samples, mel scale up to 20 kHz, 80 dB down from its loudest point; 0 dB
/// is a sine of full scale in both channels.
class SongPicture {
 public:
  /// Checks that the picture can be written, and writes nothing. Throws Error(kUser) if `path` does not end in .png, or
  /// if nothing can be written there.
  explicit SongPicture(std::filesystem::path path);

  /// The next piece, the same length for both channels.
  void add(std::span<const float> left, std::span<const float> right);

  /// Writes what draw() draws. Throws Error(kFailure) "PATH: No space left on device".
  void write();
  /// Ends the song. Throws Error(kFailure) if nothing was added.
  Picture draw();

  static constexpr SongPictureLayout kLayout = {};
  static constexpr double kRangeDb = 80;

 private:
  struct Extremes {
    float least = 0;
    float greatest = 0;
    void merge(const Extremes& other);
  };
  static constexpr Extremes kNoExtremes = {.least = 1, .greatest = -1};
  struct Powers {
    std::vector<float> sum;  // [rows of the spectrogram]
    float count = 0;
    void merge(const Powers& other);
  };
  /// How the level of a row follows from bins: by interpolation, or the greatest where there are several.
  struct Row {
    size_t bin = 0;  // interpolated between this one and the next
    float fraction = 0;
    size_t first = 0;  // and all from here
    size_t last = 0;   // to before here
  };

  void add_hops();
  void draw_wave(Picture& picture) const;
  void draw_spectrogram(Picture& picture) const;
  void draw_time_axis(Picture& picture) const;

  std::filesystem::path path_;
  OutputKind kind_;
  Spectrum spectrum_;
  std::vector<Row> rows_;
  std::vector<float> magnitudes_;
  std::vector<float> power_;
  std::array<std::vector<float>, 2> waiting_;  // from the beginning of the next window on
  int64_t frames_ = 0;
  Condensed<Extremes> wave_;
  Condensed<Powers> powers_;
};

}  // namespace heartmula
