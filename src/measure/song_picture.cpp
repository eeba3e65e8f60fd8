#include "measure/song_picture.h"

#include <fmt/format.h>

#include <limits>
#include <string>
#include <system_error>

#include "audio/format.h"
#include "audio/output_stream.h"
#include "base/error.h"

namespace heartmula {
namespace {

constexpr size_t kWindow = 4096;
constexpr size_t kHop = 512;
constexpr size_t kWaveStep = 64;
constexpr double kBinHz = static_cast<double>(kSampleRateHz) / kWindow;

constexpr size_t kMostPowers = 4096;
constexpr size_t kMostExtremes = 16384;

constexpr Colour kBackground = {22, 22, 26};
constexpr Colour kInk = {215, 215, 220};
constexpr Colour kFaint = {110, 110, 120};
constexpr Colour kWave = {122, 184, 245};

constexpr double kNothing = 1e-12;  // power; -120 dB

double decibels(double power) {
  return 10 * std::log10(std::max(power, std::numeric_limits<double>::min()));
}

/// "1:30", or "5s" and "0.5s" of a song shorter than a minute.
std::string time_label(double seconds, double duration) {
  if (duration < 60) return fmt::format("{:g}s", seconds);
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

int SongPictureLayout::row_of_hz(double hz) const {
  return static_cast<int>(std::floor(spectrogram_rows * (1 - mel_of_hz(hz) / mel_of_hz(kTopHz))));
}

double SongPictureLayout::low_hz(int row) const {
  return hz_of_mel(mel_of_hz(kTopHz) * (spectrogram_rows - row - 1) / spectrogram_rows);
}

double SongPictureLayout::high_hz(int row) const {
  return hz_of_mel(mel_of_hz(kTopHz) * (spectrogram_rows - row) / spectrogram_rows);
}

void SongPicture::Extremes::merge(const Extremes& other) {
  least = std::min(least, other.least);
  greatest = std::max(greatest, other.greatest);
}

void SongPicture::Powers::merge(const Powers& other) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += other.sum[i];
  count += other.count;
}

SongPicture::SongPicture(std::filesystem::path path)
    : path_(std::move(path)),
      kind_(OutputKind::kRegular),
      spectrum_(kWindow),
      wave_(kMostExtremes),
      powers_(kMostPowers) {
  if (lower_extension(path_) != ".png")
    throw user_error("{}: a spectrogram is a PNG picture: let the name end in .png", path_.string());
  kind_ = check_writable(path_);
  magnitudes_.resize(spectrum_.bins());
  power_.resize(spectrum_.bins());
  for (int row = 0; row < kLayout.spectrogram_rows; ++row) {
    const double middle = 0.5 * (kLayout.low_hz(row) + kLayout.high_hz(row)) / kBinHz;
    const auto bin = static_cast<size_t>(middle);
    rows_.push_back({.bin = bin,
                     .fraction = static_cast<float>(middle - static_cast<double>(bin)),
                     .first = static_cast<size_t>(std::ceil(kLayout.low_hz(row) / kBinHz)),
                     .last = static_cast<size_t>(std::ceil(kLayout.high_hz(row) / kBinHz))});
  }
  // The first window's middle is that of the first hop.
  for (std::vector<float>& samples : waiting_) samples.assign((kWindow - kHop) / 2, 0.0f);
}

void SongPicture::add(std::span<const float> left, std::span<const float> right) {
  frames_ += static_cast<int64_t>(left.size());
  waiting_[0].insert(waiting_[0].end(), left.begin(), left.end());
  waiting_[1].insert(waiting_[1].end(), right.begin(), right.end());
  add_hops();
}

void SongPicture::add_hops() {
  size_t done = 0;
  for (; done + kWindow <= waiting_[0].size(); done += kHop) {
    std::fill(power_.begin(), power_.end(), 0.0f);
    for (const std::vector<float>& samples : waiting_) {
      spectrum_.magnitudes(std::span(samples).subspan(done, kWindow), kWindow / 2, magnitudes_);
      constexpr float kPower = 0.5f * 16 / kWindow;  // mean of two channels; a sine of amplitude 1 has power 1
      for (size_t k = 0; k < power_.size(); ++k) power_[k] += kPower * magnitudes_[k] * magnitudes_[k];
    }
    Powers powers = {.sum = std::vector<float>(rows_.size()), .count = 1};
    for (size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      float level = power_[row.bin] + row.fraction * (power_[row.bin + 1] - power_[row.bin]);
      for (size_t k = row.first; k < row.last; ++k) level = std::max(level, power_[k]);
      powers.sum[i] = std::isfinite(level) ? level : 0;
    }
    powers_.add(powers);
    for (size_t step = 0; step < kHop; step += kWaveStep) {
      const size_t begin = done + (kWindow - kHop) / 2 + step;
      Extremes extremes = kNoExtremes;
      for (const std::vector<float>& samples : waiting_) {
        for (const float sample : std::span(samples).subspan(begin, kWaveStep)) extremes.merge({sample, sample});
      }
      wave_.add(extremes);
    }
  }
  for (std::vector<float>& samples : waiting_) {
    samples.erase(samples.begin(), samples.begin() + static_cast<ptrdiff_t>(done));
  }
}

Picture SongPicture::draw() {
  if (frames_ == 0) throw failure("{}: nothing is drawn: the song is empty", path_.string());
  const auto hops = (static_cast<size_t>(frames_) + kHop - 1) / kHop;
  const size_t missing = hops - static_cast<size_t>(powers_.count());
  if (missing > 0) {
    for (std::vector<float>& samples : waiting_) samples.resize(kWindow + (missing - 1) * kHop, 0.0f);
    add_hops();
  }

  Picture picture(kLayout.width, kLayout.height, kBackground);
  draw_wave(picture);
  draw_spectrogram(picture);
  draw_time_axis(picture);
  return picture;
}

void SongPicture::draw_wave(Picture& picture) const {
  const int half = kLayout.wave_rows / 2;
  const int middle = kLayout.wave_top + half;
  // The last hop may reach beyond the end of the song.
  const double whole =
      static_cast<double>(frames_) / static_cast<double>(wave_.count() * static_cast<int64_t>(kWaveStep));
  for (int column = 0; column < kLayout.columns; ++column) {
    Extremes extremes = kNoExtremes;
    for (const Extremes& part : wave_.part(whole * column / kLayout.columns, whole * (column + 1) / kLayout.columns)) {
      extremes.merge(part);
    }
    const auto row = [&](float sample) {
      return middle - static_cast<int>(std::lround(half * std::clamp(sample, -1.0f, 1.0f)));
    };
    const int top = row(extremes.greatest);
    picture.fill(kLayout.left + column, top, 1, row(extremes.least) - top + 1, kWave);
  }
}

void SongPicture::draw_spectrogram(Picture& picture) const {
  const auto rows = static_cast<size_t>(kLayout.spectrogram_rows);
  const double whole = static_cast<double>(frames_) / static_cast<double>(powers_.count() * static_cast<int64_t>(kHop));
  std::vector<float> levels(rows * static_cast<size_t>(kLayout.columns));
  for (int column = 0; column < kLayout.columns; ++column) {
    float* level = levels.data() + static_cast<size_t>(column) * rows;
    float count = 0;
    for (const Powers& part : powers_.part(whole * column / kLayout.columns, whole * (column + 1) / kLayout.columns)) {
      for (size_t row = 0; row < rows; ++row) level[row] += part.sum[row];
      count += part.count;
    }
    for (size_t row = 0; row < rows; ++row) level[row] /= count;
  }
  const double loudest = *std::max_element(levels.begin(), levels.end());
  const double top_db = loudest < kNothing ? 0 : 10 * std::ceil(decibels(loudest) / 10) + 0.0;  // not -0
  std::array<Colour, 256> colours = {};
  for (size_t i = 0; i < colours.size(); ++i) {
    colours[i] = colour_of_level(static_cast<double>(i) / static_cast<double>(colours.size() - 1));
  }
  const auto colour = [&](double level) {
    return colours[static_cast<size_t>(std::lround(std::clamp(level, 0.0, 1.0) * (colours.size() - 1)))];
  };
  for (int column = 0; column < kLayout.columns; ++column) {
    for (int row = 0; row < kLayout.spectrogram_rows; ++row) {
      const double level = levels[static_cast<size_t>(column) * rows + static_cast<size_t>(row)];
      picture.set(kLayout.left + column, kLayout.spectrogram_top + row,
                  colour(1 + (decibels(level) - top_db) / kRangeDb));
    }
  }

  const int text_middle = Picture::kTextHeight / 2;
  const int axis = kLayout.left - 1;
  const int bottom = kLayout.spectrogram_top + kLayout.spectrogram_rows;
  constexpr std::array<std::pair<double, const char*>, 7> kLabels = {
      {{200, "200"}, {500, "500"}, {1000, "1k"}, {2000, "2k"}, {5000, "5k"}, {10000, "10k"}, {20000, "20k"}}};
  for (const auto& [hz, label] : kLabels) {
    const int y = kLayout.spectrogram_top + kLayout.row_of_hz(hz);
    picture.fill(axis - 6, y, 6, 1, kInk);
    picture.text(axis - 10 - Picture::text_width(label), y - text_middle, label, kInk);
  }
  picture.text(6, bottom + 9, "Hz", kInk);

  const int bar = kLayout.left + kLayout.columns + 12;
  constexpr int kBarWidth = 12;
  for (int row = 0; row < kLayout.spectrogram_rows; ++row) {
    const double level = 1 - (row + 0.5) / kLayout.spectrogram_rows;
    picture.fill(bar, kLayout.spectrogram_top + row, kBarWidth, 1, colour(level));
  }
  for (int below = 0; below <= static_cast<int>(kRangeDb); below += 20) {
    const int y =
        kLayout.spectrogram_top + static_cast<int>(std::lround((kLayout.spectrogram_rows - 1) * below / kRangeDb));
    picture.fill(bar + kBarWidth, y, 4, 1, kInk);
    picture.text(bar + kBarWidth + 7, y - text_middle, fmt::format("{:.0f}", top_db - below), kInk);
  }
  picture.text(bar + kBarWidth + 7, bottom + 9, "dB", kInk);
}

void SongPicture::draw_time_axis(Picture& picture) const {
  constexpr std::array<double, 15> kSteps = {0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600};
  constexpr double kLeastLabelPixels = 80;
  constexpr double kLeastMarkPixels = 5;
  const double duration = static_cast<double>(frames_) / kSampleRateHz;
  const double pixels_per_second = kLayout.columns / duration;
  const auto step_of = [&](double pixels) {
    const auto* step = std::find_if(kSteps.begin(), kSteps.end(),
                                    [&](double seconds) { return seconds * pixels_per_second >= pixels; });
    return step == kSteps.end() ? kSteps.back() : *step;
  };
  const int top = kLayout.spectrogram_top + kLayout.spectrogram_rows;
  const auto mark = [&](double step, int length, const Colour& colour, bool label) {
    for (int64_t i = 0; static_cast<double>(i) * step <= duration; ++i) {
      const double seconds = static_cast<double>(i) * step;
      const int x = kLayout.left + static_cast<int>(seconds * pixels_per_second);
      picture.fill(x, top + 1, 1, length, colour);
      if (!label) continue;
      const std::string text = time_label(seconds, duration);
      picture.text(x - Picture::text_width(text) / 2, top + 9, text, kInk);
    }
  };
  mark(std::max(1.0, step_of(kLeastMarkPixels)), 3, kFaint, false);
  mark(step_of(kLeastLabelPixels), 6, kInk, true);
}

void SongPicture::write() {
  const std::vector<std::byte> png = draw().png();
  if (kind_ == OutputKind::kRegular) {
    AtomicFile file(path_);
    file.write(png);
    file.commit(/*sync=*/false);
    return;
  }
  OutputStream stream(path_, kind_);
  stream.write(png.data(), png.size());
  stream.close();
  if (stream.error() != 0) throw failure("{}: {}", path_.string(), std::generic_category().message(stream.error()));
}

}  // namespace heartmula
