// Spectra of waves: magnitudes of Hann windows, and mel filters.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace heartmula {

/// Magnitudes of windows of `size` samples. Not thread-safe: one for each thread.
class Spectrum {
 public:
  /// `size` even; a periodic Hann window.
  explicit Spectrum(size_t size);
  ~Spectrum();
  Spectrum(const Spectrum&) = delete;
  Spectrum& operator=(const Spectrum&) = delete;

  size_t size() const { return window_.size(); }
  size_t bins() const { return size() / 2 + 1; }
  /// |DFT(window * samples)| / sqrt(size) of the `size` samples around wave[centre], which is reflected at both ends:
  /// [bins]. The wave must be longer than size / 2. As torch.stft(center=True) over sqrt(size).
  void magnitudes(std::span<const float> wave, size_t centre, std::span<float> out);

 private:
  struct Plan;
  std::vector<float> window_;
  std::vector<float> windowed_;
  std::unique_ptr<Plan> plan_;
};

/// mel(f) = 2595 log10(1 + f / 700), and back.
double mel_of_hz(double hz);
double hz_of_mel(double mel);

/// Triangles on the mel scale, each with weights that add up to 1; a triangle that is narrower than the bins is the bin
/// nearest to its middle. The same as mel_filters() of train/heartmula_train/music/spectra.py.
class MelFilters {
 public:
  /// `bands` triangles between `low_hz` and `high_hz` over the bins of a window of `size` samples.
  MelFilters(size_t bands, size_t size, int rate_hz, double low_hz, double high_hz);

  size_t bands() const { return filters_.size(); }
  /// The mean power in each band: `power` [bins] -> `out` [bands].
  void apply(std::span<const float> power, std::span<double> out) const;

 private:
  struct Filter {
    size_t first_bin = 0;
    std::vector<double> weights;
  };
  std::vector<Filter> filters_;
};

}  // namespace heartmula
