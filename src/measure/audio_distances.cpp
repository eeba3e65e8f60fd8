#include "measure/audio_distances.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "measure/spectrum.h"

namespace heartmula {
namespace {

constexpr size_t kMelBands = 80;
constexpr double kMelLowHz = 40;
constexpr double kMelHighHz = 20000;
constexpr double kMelFloor = 1e-10;  // of power
constexpr double kMagnitudeFloor = 1e-3;
constexpr double kNormFloor = 1e-5;

constexpr double kEnvelopeSeconds = 0.08;
constexpr double kEnvelopeFloorDb = -60;

constexpr size_t kWindowsPerChunk = 512;

using Channels = std::vector<std::span<const float>>;

Channels common_part(const Audio& audio, size_t channels, size_t frames, std::vector<float>& mixed) {
  if (audio.channels.size() > channels) {
    mixed.resize(frames);
    for (size_t i = 0; i < frames; ++i) mixed[i] = 0.5f * (audio.channels[0][i] + audio.channels[1][i]);
    return {mixed};
  }
  Channels parts;
  for (const std::vector<float>& samples : audio.channels) parts.push_back(std::span(samples).first(frames));
  return parts;
}

/// Sums over windows; the mean or the root is taken at the end.
struct SpectralSums {
  double log_magnitude = 0;
  double squared_difference = 0;
  double squared_reference = 0;
  double log_mel_db = 0;
};

/// Adds a window's magnitudes.
void add_magnitudes(std::span<const float> a, std::span<const float> b, SpectralSums& sums) {
  // Lanes fill vectors, and a logarithm, which costs as much as twenty products, is shared by as many ratios in each:
  // magnitudes of 1e38 do not overflow so.
  constexpr size_t kLanes = 8;
  constexpr size_t kShare = 8;
  using Lanes = std::array<double, kLanes>;
  Lanes difference = {};
  Lanes reference = {};
  size_t first = 0;
  for (; first + kLanes * kShare <= a.size(); first += kLanes * kShare) {
    Lanes above;
    Lanes below;
    above.fill(1);
    below.fill(1);
    for (size_t share = 0; share < kShare; ++share) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const double x = a[first + share * kLanes + lane];
        const double y = b[first + share * kLanes + lane];
        above[lane] *= std::max(x, y) + kMagnitudeFloor;
        below[lane] *= std::min(x, y) + kMagnitudeFloor;
        difference[lane] += (x - y) * (x - y);
        reference[lane] += y * y;
      }
    }
    for (size_t lane = 0; lane < kLanes; ++lane) sums.log_magnitude += std::log(above[lane] / below[lane]);
  }
  for (size_t k = first; k < a.size(); ++k) {
    const double x = a[k];
    const double y = b[k];
    sums.log_magnitude += std::fabs(std::log((x + kMagnitudeFloor) / (y + kMagnitudeFloor)));
    sums.squared_difference += (x - y) * (x - y);
    sums.squared_reference += y * y;
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    sums.squared_difference += difference[lane];
    sums.squared_reference += reference[lane];
  }
}

/// What one thread computes with.
struct Workspace {
  explicit Workspace(size_t window) : spectrum(window), a(spectrum.bins()), b(spectrum.bins()) {}

  Spectrum spectrum;
  std::vector<float> a;
  std::vector<float> b;
  std::array<double, kMelBands> mel_a = {};
  std::array<double, kMelBands> mel_b = {};
};

void add_log_mel(Workspace& work, const MelFilters& mel, SpectralSums& sums) {
  for (std::vector<float>* magnitudes : {&work.a, &work.b}) {
    for (float& magnitude : *magnitudes) magnitude *= magnitude;
  }
  mel.apply(work.a, work.mel_a);
  mel.apply(work.b, work.mel_b);
  for (size_t band = 0; band < kMelBands; ++band) {
    sums.log_mel_db += std::fabs(10 * std::log10((work.mel_a[band] + kMelFloor) / (work.mel_b[band] + kMelFloor)));
  }
}

/// Of one window size; with `mel`, the log-mel distance, too. The same for any number of threads.
SpectralSums spectral_sums(const Channels& piece, const Channels& reference, size_t window, const MelFilters* mel,
                           ThreadPool& pool) {
  const size_t hop = window / 4;
  const size_t windows = 1 + piece[0].size() / hop;
  const size_t chunks_per_channel = (windows + kWindowsPerChunk - 1) / kWindowsPerChunk;
  std::vector<std::unique_ptr<Workspace>> workspaces(static_cast<size_t>(pool.threads()));
  std::vector<SpectralSums> parts(piece.size() * chunks_per_channel);
  pool.parallel_for(static_cast<int64_t>(parts.size()), [&](int64_t chunk, int worker) {
    const auto index = static_cast<size_t>(chunk);
    std::unique_ptr<Workspace>& work = workspaces[static_cast<size_t>(worker)];
    if (work == nullptr) work = std::make_unique<Workspace>(window);
    const size_t channel = index / chunks_per_channel;
    const size_t first = index % chunks_per_channel * kWindowsPerChunk;
    SpectralSums sums;
    for (size_t i = first; i < std::min(first + kWindowsPerChunk, windows); ++i) {
      work->spectrum.magnitudes(piece[channel], i * hop, work->a);
      work->spectrum.magnitudes(reference[channel], i * hop, work->b);
      add_magnitudes(work->a, work->b, sums);
      if (mel != nullptr) add_log_mel(*work, *mel, sums);
    }
    parts[index] = sums;
  });
  SpectralSums total;
  for (const SpectralSums& part : parts) {
    total.log_magnitude += part.log_magnitude;
    total.squared_difference += part.squared_difference;
    total.squared_reference += part.squared_reference;
    total.log_mel_db += part.log_mel_db;
  }
  return total;
}

std::optional<double> si_sdr_db(const Channels& piece, const Channels& reference) {
  double product = 0;
  double reference_energy = 0;
  for (size_t channel = 0; channel < piece.size(); ++channel) {
    for (size_t i = 0; i < piece[channel].size(); ++i) {
      const double a = piece[channel][i];
      const double b = reference[channel][i];
      product += a * b;
      reference_energy += b * b;
    }
  }
  if (product == 0) return std::nullopt;
  const double scale = product / reference_energy;
  double error_energy = 0;
  for (size_t channel = 0; channel < piece.size(); ++channel) {
    for (size_t i = 0; i < piece[channel].size(); ++i) {
      const double error = piece[channel][i] - scale * reference[channel][i];
      error_energy += error * error;
    }
  }
  return 10 * std::log10(scale * scale * reference_energy / error_energy);
}

/// The level of each 80 ms in dB; of a rest at the end that is shorter only if there is nothing else.
std::vector<double> envelope_db(const Channels& channels, int rate_hz) {
  const size_t frames = channels[0].size();
  const size_t step = std::min(frames, static_cast<size_t>(std::lround(kEnvelopeSeconds * rate_hz)));
  std::vector<double> levels(frames / step);
  for (size_t at = 0; at < levels.size(); ++at) {
    double sum = 0;
    for (const std::span<const float>& samples : channels) {
      for (const float sample : samples.subspan(at * step, step)) sum += double{sample} * double{sample};
    }
    const double mean_square = sum / static_cast<double>(step * channels.size());
    levels[at] = std::max(kEnvelopeFloorDb, 10 * std::log10(mean_square));
  }
  return levels;
}

std::optional<double> correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto count = static_cast<double>(a.size());
  double mean_a = 0;
  double mean_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    mean_a += a[i] / count;
    mean_b += b[i] / count;
  }
  double aa = 0;
  double bb = 0;
  double ab = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
    ab += (a[i] - mean_a) * (b[i] - mean_b);
  }
  constexpr double kConstant = 1e-12;  // what rounding leaves of levels that are all the same
  if (aa <= kConstant * count || bb <= kConstant * count) return std::nullopt;
  return ab / std::sqrt(aa * bb);
}

}  // namespace

double AudioDistances::log_magnitude() const {
  double sum = 0;
  for (const SpectralDistance& distance : spectral) sum += distance.log_magnitude;
  return sum / static_cast<double>(spectral.size());
}

double AudioDistances::convergence() const {
  double sum = 0;
  for (const SpectralDistance& distance : spectral) sum += distance.convergence;
  return sum / static_cast<double>(spectral.size());
}

AudioDistances audio_distances(const Audio& piece, const Audio& reference, const std::string& piece_name,
                               const std::string& reference_name, ThreadPool& pool) {
  if (piece.rate_hz != reference.rate_hz) {
    throw user_error("{} has {} Hz and {} has {} Hz: convert one of them to the other's rate first", reference_name,
                     reference.rate_hz, piece_name, piece.rate_hz);
  }
  AudioDistances distances;
  distances.frames = std::min(piece.frames(), reference.frames());
  distances.channels = std::min(piece.channels.size(), reference.channels.size());
  if (distances.frames < kLeastFrames) {
    throw user_error("{} has {} samples: at least {} are needed to compare",
                     piece.frames() < reference.frames() ? piece_name : reference_name, distances.frames, kLeastFrames);
  }
  std::vector<float> mixed_piece;
  std::vector<float> mixed_reference;
  const Channels a = common_part(piece, distances.channels, distances.frames, mixed_piece);
  const Channels b = common_part(reference, distances.channels, distances.frames, mixed_reference);
  distances.identical = piece.channels == reference.channels;

  const MelFilters mel(kMelBands, kSpectralWindows.back(), piece.rate_hz, kMelLowHz,
                       std::min(kMelHighHz, 0.5 * piece.rate_hz));
  for (size_t i = 0; i < kSpectralWindows.size(); ++i) {
    const size_t window = kSpectralWindows[i];
    const bool is_last = i + 1 == kSpectralWindows.size();
    const SpectralSums sums = spectral_sums(a, b, window, is_last ? &mel : nullptr, pool);
    const size_t bins = window / 2 + 1;
    const size_t windows = a.size() * (1 + distances.frames / (window / 4));
    distances.spectral[i] = {
        .window = window,
        .log_magnitude = sums.log_magnitude / static_cast<double>(windows * bins),
        .convergence = std::sqrt(sums.squared_difference) / (std::sqrt(sums.squared_reference) + kNormFloor)};
    if (is_last) distances.log_mel_db = sums.log_mel_db / static_cast<double>(windows * kMelBands);
  }
  distances.si_sdr_db = si_sdr_db(a, b);
  const std::vector<double> levels_a = envelope_db(a, piece.rate_hz);
  const std::vector<double> levels_b = envelope_db(b, piece.rate_hz);
  for (size_t i = 0; i < levels_a.size(); ++i) {
    distances.envelope_db += std::fabs(levels_a[i] - levels_b[i]) / static_cast<double>(levels_a.size());
  }
  distances.envelope_correlation = correlation(levels_a, levels_b);
  return distances;
}

}  // namespace heartmula
