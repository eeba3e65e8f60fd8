#include "codec/wave_decoder.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace heartmula {
namespace {

constexpr float kLevels = 9.0f;

// `rows` rows at the beginning of memory that holds them without gaps.
View first_rows(const Tensor& memory, int64_t rows, int64_t cols) {
  return memory.slice_cols(0, rows * cols).split_rows(rows);
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

std::shared_ptr<WaveDecoder::Buffers> WaveDecoder::make_buffers(Ops& ops, int64_t frames) const {
  return make_buffers(ops, frames, ops.tile_rows());
}

std::shared_ptr<WaveDecoder::Buffers> WaveDecoder::make_buffers(Ops& ops, int64_t frames, int64_t tile_rows) const {
  auto buffers = std::make_shared<Buffers>();
  const int64_t ahead = config_.delay_kernel / 2;
  int64_t channels = config_.top_channels();
  int64_t stage_rows = frames + ahead;  // that come to the stage
  for (const Stage& stage : stages_) {
    StageBuffers b;
    b.tile = std::clamp<int64_t>(tile_rows / stage.factor, 1, stage_rows);
    stage_rows *= stage.factor;
    const int64_t rows = b.tile * stage.factor;
    const int64_t longest = (config_.res_kernel - 1) * stage.units.back().dilation;
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
