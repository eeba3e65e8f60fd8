#include "codec/wave_decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

namespace heartmula {
namespace {

constexpr std::array<int64_t, 5> kDilations = {1, 3, 5, 7, 9};
constexpr float kLevels = 9.0f;
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

// `rows` rows at the beginning of memory that holds them without gaps.
View first_rows(const Tensor& memory, int64_t rows, int64_t cols) {
  return memory.slice_cols(0, rows * cols).split_rows(rows);
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

struct WaveDecoder::StageBuffers {
  int64_t tile = 0;                   // input rows a tile
  Tensor in;                          // [1 + tile, input channels]: a row of history, then the tile; weights' dtype
  Tensor x;                           // tile * factor rows of channels without gaps
  std::array<Tensor, 2> unit_inputs;  // [longest history + tile * factor, channels], in turn; weights' dtype
};

struct WaveDecoder::Buffers {
  Tensor levels;  // [frames, latent_dim]
  Tensor padded;  // [frames + delay - 1 + delay / 2, latent_dim]; weights' dtype
  Tensor top;     // [tile, top channels]; weights' dtype
  std::vector<StageBuffers> stages;
  Tensor repeat_in;   // [taps - 1 + rows, channels]; weights' dtype
  Tensor repeat_out;  // rows * num_samples rows of channels without gaps; weights' dtype
  Tensor taps;        // [kernel - 1 + rows * num_samples, kernel]
  Tensor wave;        // [1, rows * num_samples]
};

// Rows of each convolution's input; weights' dtype, but for those of the last one.
struct WaveDecoder::History {
  struct OfStage {
    Tensor in;                  // [1, input channels]
    std::vector<Tensor> units;  // [(taps - 1) * dilation, channels] each
  };
  int64_t levels_held = 0;
  Tensor levels;  // [delay - 1, latent_dim], `levels_held` of them in use
  std::vector<OfStage> stages;
  Tensor repeat_in;  // [taps - 1, channels]
  Tensor taps;       // [kernel - 1, kernel]
};

struct WaveDecoder::Pass {
  Buffers& buffers;
  History& history;
  std::span<float> samples;
  size_t written = 0;
};

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

std::shared_ptr<WaveDecoder::Buffers> WaveDecoder::make_buffers(Ops& ops, int64_t frames) const {
  return make_buffers(ops, frames, ops.tile_rows());
}

std::shared_ptr<WaveDecoder::Buffers> WaveDecoder::make_buffers(Ops& ops, int64_t frames, int64_t tile_rows) const {
  auto buffers = std::make_shared<Buffers>();
  const int64_t longest = (config_.res_kernel - 1) * kDilations.back();
  const int64_t ahead = config_.delay_kernel / 2;
  int64_t channels = config_.top_channels();
  int64_t stage_rows = frames + ahead;  // that come to the stage
  for (const Stage& stage : stages_) {
    StageBuffers b;
    b.tile = std::clamp<int64_t>(tile_rows / stage.factor, 1, stage_rows);
    stage_rows *= stage.factor;
    const int64_t rows = b.tile * stage.factor;
    b.in = ops.allocate(dtype_, 1 + b.tile, channels);
    b.x = ops.allocate(DType::kF32, 1, rows * stage.channels);
    for (Tensor& input : b.unit_inputs) input = ops.allocate(dtype_, longest + rows, stage.channels);
    buffers->stages.push_back(std::move(b));
    channels = stage.channels;
  }
  const int64_t rows = buffers->stages.back().tile * stages_.back().factor;
  const int64_t repeated = rows * config_.num_samples;
  buffers->levels = ops.allocate(DType::kF32, frames, config_.latent_dim);
  buffers->padded = ops.allocate(dtype_, frames + config_.delay_kernel - 1 + ahead, config_.latent_dim);
  buffers->top = ops.allocate(dtype_, buffers->stages.front().tile, config_.top_channels());
  buffers->repeat_in = ops.allocate(dtype_, repeat_taps_ - 1 + rows, channels);
  buffers->repeat_out = ops.allocate(dtype_, 1, repeated * channels);
  buffers->taps = ops.allocate(DType::kF32, config_.kernel - 1 + repeated, config_.kernel);
  buffers->wave = ops.allocate(DType::kF32, 1, repeated);
  return buffers;
}

std::shared_ptr<WaveDecoder::History> WaveDecoder::make_history(Ops& ops) const {
  auto history = std::make_shared<History>();
  history->levels = ops.allocate(dtype_, config_.delay_kernel - 1, config_.latent_dim);
  history->levels_held = config_.delay_kernel / 2;
  int64_t channels = config_.top_channels();
  for (const Stage& stage : stages_) {
    History::OfStage h{.in = ops.allocate(dtype_, 1, channels), .units = {}};
    for (const ResidualUnit& unit : stage.units) {
      h.units.push_back(ops.allocate(dtype_, (config_.res_kernel - 1) * unit.dilation, stage.channels));
    }
    history->stages.push_back(std::move(h));
    channels = stage.channels;
  }
  history->repeat_in = ops.allocate(dtype_, repeat_taps_ - 1, channels);
  history->taps = ops.allocate(DType::kF32, config_.kernel - 1, config_.kernel);
  return history;
}

void WaveDecoder::clear(Ops& ops, History& history) const {
  ops.clear(history.levels);
  history.levels_held = config_.delay_kernel / 2;  // zeros before the first latent
  for (const History::OfStage& stage : history.stages) {
    ops.clear(stage.in);
    for (const Tensor& unit : stage.units) ops.clear(unit);
  }
  ops.clear(history.repeat_in);
  ops.clear(history.taps);
}

void WaveDecoder::push(Ops& ops, std::vector<float>& samples, ConstView latents, Buffers& buffers,
                       History& history) const {
  run(ops, samples, latents, false, buffers, history);
}

void WaveDecoder::finish(Ops& ops, std::vector<float>& samples, ConstView latents, Buffers& buffers,
                         History& history) const {
  run(ops, samples, latents, true, buffers, history);
  clear(ops, history);
}

// The first convolution looks ahead by half its taps: its output for a latent waits for the two that follow, or for two
// frames of zeros at the end.
void WaveDecoder::run(Ops& ops, std::vector<float>& samples, ConstView latents, bool last, Buffers& b,
                      History& history) const {
  const int64_t held = history.levels_held;
  const int64_t ahead = last ? config_.delay_kernel / 2 : 0;
  const int64_t rows = held + latents.rows + ahead;
  const View padded = b.padded.slice_rows(0, rows);
  ops.copy(padded.slice_rows(0, held), history.levels.slice_rows(0, held));
  if (latents.rows > 0) {
    const View levels = b.levels.slice_rows(0, latents.rows);
    ops.round_levels(levels, latents, kLevels);
    ops.copy(padded.slice_rows(held, latents.rows), levels);
  }
  if (last) ops.clear(padded.slice_rows(held + latents.rows, ahead));
  const int64_t kept = std::min(rows, config_.delay_kernel - 1);
  ops.copy(history.levels.slice_rows(0, kept), padded.slice_rows(rows - kept, kept));
  history.levels_held = kept;
  const int64_t frames = rows - (config_.delay_kernel - 1);
  if (frames <= 0) return;

  const size_t before = samples.size();
  samples.resize(before + static_cast<size_t>(frames * config_.samples_per_latent()));
  Pass pass{b, history, std::span(samples).subspan(before)};
  const View repeat_begin = b.repeat_in.slice_rows(0, repeat_taps_ - 1);
  const View taps_begin = b.taps.slice_rows(0, config_.kernel - 1);
  ops.copy(repeat_begin, history.repeat_in);
  ops.copy(taps_begin, history.taps);
  for (int64_t first = 0; first < frames; first += b.top.rows()) {
    const int64_t count = std::min(b.top.rows(), frames - first);
    const View top = b.top.slice_rows(0, count);
    ops.conv1d(top, padded.slice_rows(first, count + config_.delay_kernel - 1), delay_, config_.delay_kernel, 1,
               {.bias = delay_bias_});
    run_stage(ops, 0, top, pass);
  }
  ops.copy(history.repeat_in, repeat_begin);
  ops.copy(history.taps, taps_begin);
}

// Takes rows of the stage before and hands its own on, a tile at a time; between tiles each convolution keeps the rows
// of its input that the next tile looks back on, so the result does not depend on the tiles.
void WaveDecoder::run_stage(Ops& ops, size_t index, ConstView in, Pass& pass) const {
  if (index == stages_.size()) {
    run_end(ops, in.rows, pass);
    return;
  }
  const Stage& stage = stages_[index];
  const StageBuffers& b = pass.buffers.stages[index];
  const View history = pass.history.stages[index].in;
  for (int64_t first = 0; first < in.rows; first += b.tile) {
    const int64_t count = std::min(b.tile, in.rows - first);
    const View padded = b.in.slice_rows(0, 1 + count);
    ops.copy(padded.slice_rows(0, 1), history);
    ops.copy(padded.slice_rows(1, count), in.slice_rows(first, count));
    const View outputs = first_rows(b.x, count, stage.factor * stage.channels);
    ops.conv1d(outputs, padded, stage.up, 2, 1, {.bias = stage.bias});
    ops.copy(history, padded.slice_rows(count, 1));
    const View x = outputs.split_rows(stage.factor);
    run_units(ops, index, x, pass);
    run_stage(ops, index + 1, x, pass);
  }
}

// Each unit writes the next one's input; the last stage's last one writes that of the end.
void WaveDecoder::run_units(Ops& ops, size_t index, View x, Pass& pass) const {
  const Stage& stage = stages_[index];
  const StageBuffers& b = pass.buffers.stages[index];
  const std::vector<Tensor>& histories = pass.history.stages[index].units;
  const auto input_of = [&](size_t unit) { return b.unit_inputs[unit % 2].slice_rows(histories[unit].rows(), x.rows); };
  ops.copy(input_of(0), x);
  for (size_t i = 0; i < stage.units.size(); ++i) {
    const View history = histories[i];
    const View padded = b.unit_inputs[i % 2].slice_rows(0, history.rows + x.rows);
    View next;
    if (i + 1 < stage.units.size()) {
      next = input_of(i + 1);
    } else if (index + 1 == stages_.size()) {
      next = pass.buffers.repeat_in.slice_rows(repeat_taps_ - 1, x.rows);
    }
    ops.copy(padded.slice_rows(0, history.rows), history);
    ops.residual_unit(x, next, padded, stage.units[i]);
    ops.copy(history, padded.slice_rows(x.rows, history.rows));
  }
}

// Repeat, convolution, PReLU, and the last convolution to one channel, of `rows` rows in repeat_in.
void WaveDecoder::run_end(Ops& ops, int64_t rows, Pass& pass) const {
  const Buffers& b = pass.buffers;
  const int64_t before = repeat_taps_ - 1;
  const int64_t repeated = rows * config_.num_samples;
  const View in = b.repeat_in.slice_rows(0, before + rows);
  const View outputs = first_rows(b.repeat_out, rows, repeat_.n());
  ops.conv1d(outputs, in, repeat_, repeat_taps_, 1, {.bias = repeat_bias_, .prelu = &repeat_slope_});
  for (int64_t row = 0; row < before; ++row) ops.copy(in.slice_rows(row, 1), in.slice_rows(rows + row, 1));

  const int64_t past = config_.kernel - 1;
  const View taps = b.taps.slice_rows(0, past + repeated);
  const View wave = b.wave.slice_cols(0, repeated);
  ops.linear(taps.slice_rows(past, repeated), outputs.split_rows(config_.num_samples), last_);
  ops.diagonal_sum(wave, taps, last_bias_);
  for (int64_t row = 0; row < past; ++row) ops.copy(taps.slice_rows(row, 1), taps.slice_rows(repeated + row, 1));
  ops.download(pass.samples.subspan(pass.written, static_cast<size_t>(repeated)), wave);
  pass.written += static_cast<size_t>(repeated);
}

float WaveDecoder::level(float latent) {
  return std::nearbyint(kLevels * latent) / kLevels;
}

}  // namespace heartmula
