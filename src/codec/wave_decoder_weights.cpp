// The weights of the wave decoder: weight norm undone, transposed and repeated convolutions as products.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "codec/wave_decoder.h"

namespace heartmula {
namespace {

constexpr std::array<int64_t, 5> kDilations = {1, 3, 5, 7, 9};
const std::string kPrefix = "scalar_model.decoder.";

struct WeightNormNames {
  std::string magnitude;  // empty without weight norm
  std::string direction;
};

// Both spellings are in use: torch's parametrizations and the older weight_g, weight_v.
WeightNormNames weight_norm_names(const WeightStore& store, const std::string& conv) {
  if (store.contains(conv + "weight_g")) return {conv + "weight_g", conv + "weight_v"};
  return {conv + "parametrizations.weight.original0", conv + "parametrizations.weight.original1"};
}

void expect_conv(std::vector<ExpectedTensor>& expected, const WeightStore& store, const std::string& conv,
                 std::vector<int64_t> shape, int64_t bias) {
  const WeightNormNames names = weight_norm_names(store, conv);
  expected.push_back({names.magnitude, {shape[0], 1, 1}});
  expected.push_back({names.direction, std::move(shape)});
  expected.push_back({conv + "bias", {bias}});
}

// The weight of a convolution in the stored order [first, second, taps]; of one with weight norm g v / |v|, the norm
// over all axes but the first. It is read when a row is first asked for, which a packed checkpoint never does.
class Conv {
 public:
  /// With weight norm.
  Conv(const WeightLoader& load, const WeightStore& store, const std::string& conv)
      : Conv(load, store, conv + "weight", weight_norm_names(store, conv)) {}
  /// Without.
  static Conv plain(const WeightLoader& load, const WeightStore& store, const std::string& conv) {
    return {load, store, conv + "weight", {"", conv + "weight"}};
  }

  const int64_t first;
  const int64_t second;
  const int64_t taps;

  /// For a row of MatrixSource: at(a, b, tap).
  auto reader() const {
    std::call_once(once_, [this] { read(); });
    return [this](int64_t a, int64_t b, int64_t tap) {
      return values_[static_cast<size_t>((a * second + b) * taps + tap)];
    };
  }

  /// A matrix [n, k] made of the weight.
  MatrixSource source(int64_t n, int64_t k, std::function<void(int64_t, float*)> read_row) const {
    std::vector<std::string> tensors = {names_.direction};
    if (!names_.magnitude.empty()) tensors.push_back(names_.magnitude);
    return {n, k, std::move(read_row), name_, tensors};
  }

 private:
  Conv(const WeightLoader& load, const WeightStore& store, std::string name, WeightNormNames names)
      : first(store.shape(names.direction)[0]),
        second(store.shape(names.direction)[1]),
        taps(store.shape(names.direction)[2]),
        load_(load),
        name_(std::move(name)),
        names_(std::move(names)) {}

  void read() const {
    values_ = load_.values(names_.direction);
    if (names_.magnitude.empty()) return;
    const std::vector<float> magnitudes = load_.values(names_.magnitude);
    const size_t row = static_cast<size_t>(second * taps);
    for (size_t i = 0; i < magnitudes.size(); ++i) {
      const std::span<float> values(values_.data() + i * row, row);
      double square_sum = 0.0;
      for (const float value : values) square_sum += static_cast<double>(value) * value;
      const double scale = magnitudes[i] / std::sqrt(square_sum);
      for (float& value : values) value = static_cast<float>(value * scale);
    }
  }

  const WeightLoader& load_;
  std::string name_;
  WeightNormNames names_;
  mutable std::once_flag once_;
  mutable std::vector<float> values_;
};

// A convolution [n, channels, taps] as [n, taps * channels], taps outermost.
Matrix pack_conv(const WeightLoader& load, const Conv& conv) {
  const auto read_row = [&conv](int64_t output, float* row) {
    const auto at = conv.reader();
    for (int64_t tap = 0; tap < conv.taps; ++tap) {
      for (int64_t channel = 0; channel < conv.second; ++channel) *row++ = at(output, channel, tap);
    }
  };
  return load.pack(conv.source(conv.first, conv.taps * conv.second, read_row));
}

// Output s j + r of a transposed convolution [in, out, 2 s] is W[:, :, r + s]^T x[j - 1] + W[:, :, r]^T x[j]: all of
// them as [s * out, 2 * in], row r * out + o.
Matrix pack_transposed(const WeightLoader& load, const Conv& conv) {
  const int64_t factor = conv.taps / 2;
  const auto read_row = [&conv, factor](int64_t output, float* row) {
    const auto at = conv.reader();
    const int64_t phase = output / conv.second;
    for (const int64_t tap : {phase + factor, phase}) {
      for (int64_t channel = 0; channel < conv.first; ++channel) *row++ = at(channel, output % conv.second, tap);
    }
  };
  return load.pack(conv.source(factor * conv.second, 2 * conv.first, read_row));
}

// Of a signal whose samples stand n times each, output n t + r of a causal convolution needs x[t - taps + 1] to x[t]:
// tap j of the kernel falls on x[floor((n t + r - (kernel - 1) + j) / n)].
int64_t repeated_taps(int64_t kernel, int64_t repeats) {
  return (kernel - 1 + repeats - 1) / repeats + 1;
}

Matrix pack_repeated(const WeightLoader& load, const Conv& conv, int64_t repeats) {
  const int64_t taps = repeated_taps(conv.taps, repeats);
  const auto read_row = [&conv, repeats, taps](int64_t output, float* row) {
    const auto at = conv.reader();
    const int64_t phase = output / conv.first;
    std::fill(row, row + taps * conv.second, 0.0f);
    for (int64_t j = 0; j < conv.taps; ++j) {
      const int64_t tap = ((taps - 1) * repeats + phase - (conv.taps - 1) + j) / repeats;
      for (int64_t channel = 0; channel < conv.second; ++channel) {
        row[tap * conv.second + channel] += at(output % conv.first, channel, j);
      }
    }
  };
  return load.pack(conv.source(repeats * conv.first, taps * conv.second, read_row));
}

// The bias of `count` outputs that stand beside each other.
Tensor bias_of_each(const WeightLoader& load, const std::string& name, int64_t count) {
  const std::vector<float> one = load.values(name);
  std::vector<float> all;
  for (int64_t i = 0; i < count; ++i) all.insert(all.end(), one.begin(), one.end());
  return load.upload(all, 1);
}

// The last convolution [1, channels, taps] as a product for each tap: [taps, channels].
Matrix pack_taps(const WeightLoader& load, const Conv& conv) {
  const auto read_row = [&conv](int64_t tap, float* row) {
    const auto at = conv.reader();
    for (int64_t channel = 0; channel < conv.second; ++channel) row[channel] = at(0, channel, tap);
  };
  return load.pack(conv.source(conv.taps, conv.second, read_row));
}

std::string stage_name(size_t stage) {
  return kPrefix + std::to_string(stage + 1) + ".";
}

std::string unit_name(size_t stage, size_t unit) {
  return stage_name(stage) + "convs." + std::to_string(unit) + ".";
}

}  // namespace

std::vector<ExpectedTensor> WaveDecoder::expected_tensors(const CodecConfig& c, const WeightStore& store) {
  std::vector<ExpectedTensor> expected;
  expect_conv(expected, store, kPrefix + "0.", {c.top_channels(), c.latent_dim, c.delay_kernel}, c.top_channels());
  int64_t channels = c.top_channels();
  for (size_t i = 0; i < c.upsample_factors.size(); ++i) {
    const int64_t out = channels / 2;
    expect_conv(expected, store, stage_name(i) + "up_conv.layer.", {channels, out, 2 * c.upsample_factors[i]}, out);
    for (size_t j = 0; j < kDilations.size(); ++j) {
      const std::string unit = unit_name(i, j);
      expect_conv(expected, store, unit + "conv1.", {out, out, c.res_kernel}, out);
      expect_conv(expected, store, unit + "conv2.", {out, out, 1}, out);
      expected.push_back({unit + "activation1.weight", {1}});
      expected.push_back({unit + "activation2.weight", {1}});
    }
    channels = out;
  }
  const size_t last = c.upsample_factors.size();
  expected.push_back({stage_name(last) + "conv.weight", {channels, channels, c.kernel}});
  expected.push_back({stage_name(last) + "conv.bias", {channels}});
  expected.push_back({stage_name(last) + "activation.weight", {1}});
  expect_conv(expected, store, stage_name(last + 1), {1, channels, c.kernel}, 1);
  return expected;
}

WaveDecoder WaveDecoder::load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype) {
  const WeightLoader load(ops, store, dtype);
  WaveDecoder decoder;
  decoder.config_ = config;
  decoder.dtype_ = dtype;
  decoder.delay_ = pack_conv(load, Conv(load, store, kPrefix + "0."));
  decoder.delay_bias_ = load.vector(kPrefix + "0.bias");
  for (size_t i = 0; i < config.upsample_factors.size(); ++i) {
    Stage stage;
    stage.factor = config.upsample_factors[i];
    const Conv up(load, store, stage_name(i) + "up_conv.layer.");
    stage.channels = up.second;
    stage.up = pack_transposed(load, up);
    stage.bias = bias_of_each(load, stage_name(i) + "up_conv.layer.bias", stage.factor);
    for (size_t j = 0; j < kDilations.size(); ++j) {
      const std::string name = unit_name(i, j);
      ResidualUnit unit;
      unit.conv1 = pack_conv(load, Conv(load, store, name + "conv1."));
      unit.bias1 = load.vector(name + "conv1.bias");
      unit.slope1 = load.values(name + "activation1.weight")[0];
      unit.conv2 = pack_conv(load, Conv(load, store, name + "conv2."));
      unit.bias2 = load.vector(name + "conv2.bias");
      unit.slope2 = load.values(name + "activation2.weight")[0];
      unit.taps = config.res_kernel;
      unit.dilation = kDilations[j];
      stage.units.push_back(std::move(unit));
    }
    decoder.stages_.push_back(std::move(stage));
  }
  const std::string repeat = stage_name(config.upsample_factors.size());
  const Conv plain = Conv::plain(load, store, repeat + "conv.");
  decoder.repeat_taps_ = repeated_taps(config.kernel, config.num_samples);
  decoder.repeat_ = pack_repeated(load, plain, config.num_samples);
  decoder.repeat_bias_ = bias_of_each(load, repeat + "conv.bias", config.num_samples);
  decoder.repeat_slope_ = load.values(repeat + "activation.weight")[0];
  const std::string last = stage_name(config.upsample_factors.size() + 1);
  decoder.last_ = pack_taps(load, Conv(load, store, last));
  decoder.last_bias_ = load.vector(last + "bias");
  return decoder;
}

}  // namespace heartmula
