#include "measure/audio_distances.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <complex>

#include "base/testing.h"
#include "measure/signals.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Audio audio(std::vector<Samples> channels, int rate_hz = 48000) {
  return {.rate_hz = rate_hz, .channels = std::move(channels)};
}

AudioDistances distances(const Audio& piece, const Audio& reference, int threads = 1) {
  ThreadPool pool(threads);
  return audio_distances(piece, reference, "piece.wav", "reference.wav", pool);
}

/// What train/heartmula_train/codec/distances.py and music/spectra.py say, in float64 and by sums.
class Reference {
 public:
  using Matrix = std::vector<std::vector<double>>;  // [windows of all channels][bins]

  static Matrix magnitudes(const Audio& piece, size_t window) {
    Matrix rows;
    std::vector<std::complex<double>> turns(window);
    for (size_t i = 0; i < window; ++i) turns[i] = std::polar(1.0, -2 * std::numbers::pi * double(i) / double(window));
    for (const Samples& samples : piece.channels) {
      const auto last = static_cast<int64_t>(samples.size()) - 1;
      for (size_t centre = 0; centre <= samples.size(); centre += window / 4) {
        std::vector<double> windowed(window);
        for (size_t i = 0; i < window; ++i) {
          int64_t at = static_cast<int64_t>(centre + i) - static_cast<int64_t>(window / 2);
          if (at < 0) at = -at;
          if (at > last) at = 2 * last - at;
          windowed[i] = (0.5 - 0.5 * turns[i].real()) * samples[static_cast<size_t>(at)];
        }
        std::vector<double>& row = rows.emplace_back(window / 2 + 1);
        for (size_t k = 0; k < row.size(); ++k) {
          std::complex<double> sum = 0;
          for (size_t i = 0; i < window; ++i) sum += windowed[i] * turns[k * i % window];
          row[k] = std::abs(sum) / std::sqrt(double(window));
        }
      }
    }
    return rows;
  }

  /// [bands][bins]
  static Matrix mel_filters() {
    constexpr int kBands = 80;
    constexpr int kBins = 1025;
    const auto mel = [](double hz) { return 2595 * std::log10(1 + hz / 700); };
    std::vector<double> edges(kBands + 2);
    for (size_t i = 0; i < edges.size(); ++i) {
      const double at = mel(40) + (mel(20000) - mel(40)) * double(i) / (kBands + 1);
      edges[i] = 700 * (std::pow(10, at / 2595) - 1);
    }
    Matrix filters(kBands, std::vector<double>(kBins));
    for (size_t band = 0; band < kBands; ++band) {
      double sum = 0;
      size_t nearest = 0;
      for (size_t bin = 0; bin < kBins; ++bin) {
        const double hz = double(bin) * 48000 / 2048;
        const double rising = (hz - edges[band]) / (edges[band + 1] - edges[band]);
        const double falling = (edges[band + 2] - hz) / (edges[band + 2] - edges[band + 1]);
        filters[band][bin] = std::max(0.0, std::min(rising, falling));
        sum += filters[band][bin];
        const double nearest_hz = double(nearest) * 48000 / 2048;
        if (std::abs(hz - edges[band + 1]) < std::abs(nearest_hz - edges[band + 1])) nearest = bin;
      }
      if (sum == 0) filters[band][nearest] = sum = 1;
      for (double& weight : filters[band]) weight /= sum;
    }
    return filters;
  }

  static double log_mel_db(const Audio& piece, const Audio& reference) {
    const Matrix filters = mel_filters();
    const Matrix a = magnitudes(piece, 2048);
    const Matrix b = magnitudes(reference, 2048);
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      for (const std::vector<double>& filter : filters) {
        double power_a = 1e-10;
        double power_b = 1e-10;
        for (size_t k = 0; k < filter.size(); ++k) {
          power_a += filter[k] * a[i][k] * a[i][k];
          power_b += filter[k] * b[i][k] * b[i][k];
        }
        sum += std::abs(10 * std::log10(power_a / power_b));
      }
    }
    return sum / double(a.size() * filters.size());
  }

  static SpectralDistance spectral(const Audio& piece, const Audio& reference, size_t window) {
    const Matrix a = magnitudes(piece, window);
    const Matrix b = magnitudes(reference, window);
    double log_magnitude = 0;
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      for (size_t k = 0; k < a[i].size(); ++k) {
        log_magnitude += std::abs(std::log(a[i][k] + 1e-3) - std::log(b[i][k] + 1e-3));
        difference += std::pow(a[i][k] - b[i][k], 2);
        norm += std::pow(b[i][k], 2);
      }
    }
    return {window, log_magnitude / double(a.size() * a[0].size()), std::sqrt(difference) / (std::sqrt(norm) + 1e-5)};
  }
};

constexpr size_t kHalfSecond = 24000;

Audio fixture_reference() {
  return audio(
      {sine(0.5, 440, 0.5) + noise(0.01, kHalfSecond, 1), sine(0.2, 3000, 0.5) + noise(0.001, kHalfSecond, 2)});
}

Audio fixture_piece() {
  return audio(
      {sine(0.45, 443, 0.5) + noise(0.02, kHalfSecond, 3), sine(0.2, 3000, 0.5) + noise(0.0005, kHalfSecond, 4)});
}

TEST(AudioDistances, are_those_of_the_training_kit) {
  // What log_mel_distance_db, si_sdr_db and spectral_losses of train/heartmula_train/codec/distances.py say of
  // torch.from_numpy of these samples (PyTorch 2.13): made by the same sines and the same generator in numpy.
  const AudioDistances found = distances(fixture_piece(), fixture_reference());
  EXPECT_NEAR(found.log_mel_db, 5.5198898, 1e-3);
  EXPECT_NEAR(*found.si_sdr_db, -16.3267784, 1e-3);
  EXPECT_NEAR(found.log_magnitude(), 0.4111570, 1e-5);
  EXPECT_NEAR(found.convergence(), 0.1101655, 1e-5);
}

TEST(AudioDistances, agree_with_plain_sums) {
  const auto part = [](Audio whole) {
    for (Samples& samples : whole.channels) samples.resize(5000);  // no multiple of a hop
    return whole;
  };
  const Audio piece = part(fixture_piece());
  const Audio reference = part(fixture_reference());
  const AudioDistances found = distances(piece, reference);
  EXPECT_NEAR(found.log_mel_db, Reference::log_mel_db(piece, reference), 1e-4);
  for (const SpectralDistance& spectral : found.spectral) {
    const SpectralDistance expected = Reference::spectral(piece, reference, spectral.window);
    EXPECT_NEAR(spectral.log_magnitude, expected.log_magnitude, 1e-5) << spectral.window;
    EXPECT_NEAR(spectral.convergence, expected.convergence, 1e-6) << spectral.window;
  }
}

TEST(AudioDistances, of_a_piece_from_itself_are_nothing) {
  const AudioDistances found = distances(fixture_piece(), fixture_piece());
  EXPECT_TRUE(found.identical);
  EXPECT_EQ(found.log_mel_db, 0);
  EXPECT_EQ(found.log_magnitude(), 0);
  EXPECT_EQ(found.convergence(), 0);
  EXPECT_EQ(found.si_sdr_db, INFINITY);
  EXPECT_EQ(found.envelope_db, 0);
}

TEST(AudioDistances, si_sdr_is_the_ratio_of_signal_to_noise_whatever_the_volume) {
  const Samples signal = noise(0.5, 480000, 1);
  for (const double noise_db : {-10.0, -30.0, -60.0}) {
    const double factor = std::pow(10, noise_db / 20);
    const Audio piece = audio({3 * (signal + factor * noise(0.5, 480000, 2))});
    EXPECT_NEAR(*distances(piece, audio({signal})).si_sdr_db, -noise_db, 0.05);
  }
  EXPECT_EQ(distances(audio({0.5 * signal}), audio({signal})).si_sdr_db, INFINITY);
  EXPECT_FALSE(distances(audio({Samples(480000)}), audio({signal})).si_sdr_db.has_value());
  EXPECT_FALSE(distances(audio({signal}), audio({Samples(480000)})).si_sdr_db.has_value());
}

TEST(AudioDistances, half_the_amplitude_is_6_dB_away) {
  const Samples signal = noise(0.5, 96000, 1);
  const double half_db = 20 * std::log10(2);
  const AudioDistances found = distances(audio({0.5 * signal}), audio({signal}));
  EXPECT_NEAR(found.log_mel_db, half_db, 1e-4);
  EXPECT_NEAR(found.envelope_db, half_db, 1e-4);
  EXPECT_NEAR(found.convergence(), 0.5, 1e-4);
  EXPECT_NEAR(*found.envelope_correlation, 1, 1e-4);
}

TEST(AudioDistances, levels_of_the_envelope_end_at_minus_60_dB) {
  const AudioDistances found = distances(audio({Samples(48000)}), audio({sine(0.1 * std::sqrt(2), 1000, 1)}));
  EXPECT_NEAR(found.envelope_db, 40, 1e-3);
  EXPECT_FALSE(found.envelope_correlation.has_value());
}

TEST(AudioDistances, the_common_part_is_compared) {
  Audio longer = fixture_piece();
  for (Samples& samples : longer.channels) samples.resize(kHalfSecond + 5000, 0.5f);
  const AudioDistances found = distances(longer, fixture_piece());
  EXPECT_EQ(found.frames, kHalfSecond);
  EXPECT_EQ(found.log_mel_db, 0);
  EXPECT_FALSE(found.identical);
}

TEST(AudioDistances, a_stereo_piece_is_mixed_down_beside_a_mono_one) {
  const Audio stereo = fixture_piece();
  Samples mixed(kHalfSecond);
  for (size_t i = 0; i < mixed.size(); ++i) mixed[i] = 0.5f * (stereo.channels[0][i] + stereo.channels[1][i]);
  for (const AudioDistances& found : {distances(stereo, audio({mixed})), distances(audio({mixed}), stereo)}) {
    EXPECT_EQ(found.channels, 1u);
    EXPECT_EQ(found.log_mel_db, 0);
    EXPECT_EQ(found.si_sdr_db, INFINITY);
  }
}

TEST(AudioDistances, do_not_depend_on_the_number_of_threads) {
  const Audio piece = audio({noise(0.5, 300000, 1), noise(0.1, 300000, 2)});
  const Audio reference = audio({noise(0.5, 300000, 3), noise(0.1, 300000, 4)});
  const AudioDistances one = distances(piece, reference, 1);
  const AudioDistances three = distances(piece, reference, 3);
  EXPECT_EQ(one.log_mel_db, three.log_mel_db);
  EXPECT_EQ(one.log_magnitude(), three.log_magnitude());
  EXPECT_EQ(one.convergence(), three.convergence());
}

TEST(AudioDistances, other_rates_work_and_different_ones_are_refused) {
  const Audio low = audio({sine(0.5, 440, 0.5, 16000)}, 16000);
  EXPECT_EQ(distances(low, low).log_mel_db, 0);
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { distances(low, fixture_piece()); }),
              AllOf(HasSubstr("16000 Hz"), HasSubstr("48000 Hz"), HasSubstr("piece.wav")));
  const Audio tiny = audio({Samples(100)});
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { distances(tiny, tiny); }), HasSubstr("100 samples"));
}

}  // namespace
}  // namespace heartmula
