#include "measure/spectrum.h"

#include <kiss_fftr.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <numbers>
#include <numeric>

namespace heartmula {

struct Spectrum::Plan {
  explicit Plan(size_t size) : config(kiss_fftr_alloc(static_cast<int>(size), 0, nullptr, nullptr)) {
    if (config == nullptr) throw std::bad_alloc();
    spectrum.resize(size / 2 + 1);
  }
  ~Plan() { std::free(config); }  // NOLINT(bugprone-multi-level-implicit-pointer-conversion)
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  kiss_fftr_cfg config;
  std::vector<kiss_fft_cpx> spectrum;
};

Spectrum::Spectrum(size_t size) : window_(size), windowed_(size), plan_(std::make_unique<Plan>(size)) {
  for (size_t i = 0; i < size; ++i) {
    const double phase = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(size);
    window_[i] = static_cast<float>(0.5 - 0.5 * std::cos(phase));
  }
}

Spectrum::~Spectrum() = default;

void Spectrum::magnitudes(std::span<const float> wave, size_t centre, std::span<float> out) {
  const size_t half = size() / 2;
  if (centre >= half && centre + half <= wave.size()) {
    const float* samples = wave.data() + (centre - half);
    for (size_t i = 0; i < size(); ++i) windowed_[i] = window_[i] * samples[i];
  } else {
    const auto last = static_cast<int64_t>(wave.size()) - 1;
    for (size_t i = 0; i < size(); ++i) {
      const int64_t at = std::abs(static_cast<int64_t>(centre + i) - static_cast<int64_t>(half));
      windowed_[i] = window_[i] * wave[static_cast<size_t>(last - std::abs(last - at))];
    }
  }
  kiss_fftr(plan_->config, windowed_.data(), plan_->spectrum.data());
  const float scale = 1 / std::sqrt(static_cast<float>(size()));
  const kiss_fft_cpx* spectrum = plan_->spectrum.data();
  for (size_t k = 0; k < out.size(); ++k) {
    out[k] = scale * std::sqrt(spectrum[k].r * spectrum[k].r + spectrum[k].i * spectrum[k].i);
  }
}

double mel_of_hz(double hz) {
  return 2595 * std::log10(1 + hz / 700);
}

double hz_of_mel(double mel) {
  return 700 * (std::pow(10, mel / 2595) - 1);
}

MelFilters::MelFilters(size_t bands, size_t size, int rate_hz, double low_hz, double high_hz) : filters_(bands) {
  const double low = mel_of_hz(low_hz);
  const double step = (mel_of_hz(high_hz) - low) / static_cast<double>(bands + 1);
  const double bin_hz = static_cast<double>(rate_hz) / static_cast<double>(size);
  for (size_t band = 0; band < bands; ++band) {
    const auto edge = [&](size_t index) { return hz_of_mel(low + step * static_cast<double>(band + index)); };
    const double begin = edge(0);
    const double middle = edge(1);
    const double end = edge(2);
    Filter& filter = filters_[band];
    for (size_t bin = 0; bin <= size / 2; ++bin) {
      const double hz = static_cast<double>(bin) * bin_hz;
      const double weight = std::min((hz - begin) / (middle - begin), (end - hz) / (end - middle));
      if (weight <= 0) continue;
      if (filter.weights.empty()) filter.first_bin = bin;
      filter.weights.push_back(weight);
    }
    if (filter.weights.empty()) {
      filter.first_bin = std::min(static_cast<size_t>(std::lround(middle / bin_hz)), size / 2);
      filter.weights = {1};
    }
    const double sum = std::accumulate(filter.weights.begin(), filter.weights.end(), 0.0);
    for (double& weight : filter.weights) weight /= sum;
  }
}

void MelFilters::apply(std::span<const float> power, std::span<double> out) const {
  for (size_t band = 0; band < filters_.size(); ++band) {
    const Filter& filter = filters_[band];
    double sum = 0;
    for (size_t i = 0; i < filter.weights.size(); ++i) {
      sum += filter.weights[i] * double{power[filter.first_bin + i]};
    }
    out[band] = sum;
  }
}

}  // namespace heartmula
