// One piece of the models by our own operations, for bench/peers/run, which compares it with other runtimes.
//
//   peers_ours PIECE.safetensors f32|bf16 OUT.safetensors
//
// Prints "loaded" and what will compute; computes the piece once, writes it ("out", f32) and prints "ready"; then, for
// each line that it reads, computes it again and prints the milliseconds. Threads are as many as the process may use.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cpu/cpu_ops.h"
#include "lm/transformer.h"
#include "ops/weights.h"

namespace heartmula {
namespace {

constexpr TransformerConfig kBackboneLayer{.num_layers = 1,
                                           .num_heads = 24,
                                           .num_kv_heads = 8,
                                           .embed_dim = 3072,
                                           .intermediate_dim = 8192,
                                           .max_seq_len = 8192};
constexpr int64_t kFlowHeads = 24;
constexpr float kFlowNormEps = 1e-6F;
constexpr int64_t kPair = 2;  // windows of the flow, channels of the wave decoder
constexpr int64_t kUnits = 5;
constexpr int64_t kTaps = 7;

struct Piece {
  View out;                   // [rows, channels], f32
  std::function<void()> run;  // fills it
};

/// A layer of the backbone: rows of one prompt or, where there are keys and values, the next row of each stream.
Piece make_layer(Ops& ops, const WeightStore& store, DType dtype) {
  const WeightLoader load(ops, store, dtype);
  const int64_t count = store.shape("x")[0];
  const bool decodes = store.contains("keys");
  const int64_t past = decodes ? store.shape("keys")[0] / count : 0;
  const int64_t positions = decodes ? past + 1 : count;
  const auto transformer =
      std::make_shared<Transformer>(Transformer::load(ops, store, kBackboneLayer, "", dtype, positions));
  const auto cache = std::make_shared<TransformerCache>(transformer->make_cache(ops, decodes ? count : 1, positions));
  if (decodes) {
    const int64_t pairs = kBackboneLayer.head_dim() / 2;
    Rope unturned{ops.allocate(DType::kF32, past, pairs), ops.allocate(DType::kF32, past, pairs)};  // keys are rotated
    ops.upload(unturned.cos, std::vector<float>(static_cast<size_t>(past * pairs), 1.0F));
    std::vector<Row> rows;
    for (int32_t stream = 0; stream < count; ++stream) {
      for (int32_t position = 0; position < past; ++position) rows.push_back({stream, position});
    }
    ops.append_kv(*cache->layers[0], load.table("keys", count * past), load.table("values", count * past), unturned,
                  rows);
  }
  std::vector<Row> rows;
  for (int32_t i = 0; i < count; ++i) {
    rows.push_back(decodes ? Row{i, static_cast<int32_t>(past)} : Row{0, i});
  }
  const std::shared_ptr<Rows> placed = ops.make_rows(count);
  ops.set_rows(*placed, rows);
  const Tensor x = load.table("x", count);
  const Tensor out = ops.allocate(DType::kF32, count, kBackboneLayer.embed_dim);
  const TransformerBuffers buffers = transformer->make_buffers(ops, count);
  return {out, [=, &ops] {
            ops.copy(out, x);
            transformer->forward(ops, out, *placed, *cache, buffers);
          }};
}

/// A block of the velocity transformer on a pair of windows: the body of VelocityTransformer::run_stack.
Piece make_flow(Ops& ops, const WeightStore& store, DType dtype) {
  const WeightLoader load(ops, store, dtype);
  const int64_t rows = store.shape("x")[0];
  const int64_t width = store.shape("x")[1];
  const int64_t frames = rows / kPair;
  const Matrix qkv = load.matrix({"attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"});
  const Matrix output = load.matrix({"attn.o_proj.weight"});
  const Matrix gate_up = load.gate_up("mlp.gate.weight", "mlp.up.weight");
  const Matrix down = load.matrix({"mlp.down.weight"});
  const Tensor attention_norm = load.vector("attn_norm.weight");
  const Tensor mlp_norm = load.vector("mlp_norm.weight");
  const Tensor modulation = load.table("scale_shift_table", 6);
  const Rope rope{load.table("cos", frames), load.table("sin", frames)};
  const Tensor x = load.table("x", rows);
  const Tensor out = ops.allocate(DType::kF32, rows, width);
  const Tensor normed = ops.allocate(dtype, rows, width);
  const Tensor projected = ops.allocate(DType::kF32, rows, 3 * width);
  const Tensor mixed = ops.allocate(dtype, rows, width);
  const Tensor hidden = ops.allocate(dtype, rows, down.k());
  return {out, [=, &ops] {
            const auto m = [&](int64_t row) { return modulation.slice_rows(row, 1); };
            ops.copy(out, x);
            ops.rms_norm_modulated(normed, out, attention_norm, m(1), m(0), kFlowNormEps);
            ops.linear(projected, normed, qkv);
            ops.attend_all(mixed, projected.slice_cols(0, width), projected.slice_cols(width, width),
                           projected.slice_cols(2 * width, width), rope, kFlowHeads, kPair);
            ops.linear_add_scaled(out, mixed, output, m(2));
            ops.rms_norm_modulated(normed, out, mlp_norm, m(4), m(3), kFlowNormEps);
            ops.linear_silu_gate(hidden, normed, gate_up);
            ops.linear_add_scaled(out, hidden, down, m(5));
          }};
}

/// A stage of the wave decoder on both audio channels, in tiles as WaveDecoder works through it.
class WaveStage {
 public:
  WaveStage(Ops& ops, const WeightStore& store, DType dtype) : ops_(ops) {
    const WeightLoader load(ops, store, dtype);
    x_ = load.table("x", store.shape("x")[0]);
    up_ = load.matrix({"up"});
    up_bias_ = load.vector("up_bias");
    for (int64_t i = 0; i < kUnits; ++i) {
      const std::string name = std::to_string(i) + ".";
      units_.push_back({.conv1 = load.matrix({name + "conv1"}),
                        .bias1 = load.vector(name + "conv1_bias"),
                        .slope1 = load.values(name + "conv1_slope")[0],
                        .conv2 = load.matrix({name + "conv2"}),
                        .bias2 = load.vector(name + "conv2_bias"),
                        .slope2 = load.values(name + "conv2_slope")[0],
                        .taps = kTaps,
                        .dilation = static_cast<int64_t>(load.values(name + "dilation")[0])});
    }
    channels_ = units_[0].conv1.n();
    factor_ = up_.n() / channels_;
    tile_ = ops.tile_rows() / factor_;
    out_ = ops.allocate(DType::kF32, 1, x_.rows() * factor_ * channels_);
    in_ = ops.allocate(dtype, 1 + tile_, x_.cols());
    last_row_ = ops.allocate(dtype, 1, x_.cols());
    for (const ResidualUnit& unit : units_) {
      histories_.push_back(ops.allocate(dtype, (kTaps - 1) * unit.dilation, channels_));
    }
    for (Tensor& input : unit_inputs_) {
      input = ops.allocate(dtype, histories_.back().rows() + tile_ * factor_, channels_);
    }
  }

  View out() const { return out_.view().split_rows(x_.rows() * factor_); }

  void run() {
    const int64_t rows = x_.rows() / kPair;
    for (int64_t channel = 0; channel < kPair; ++channel) {
      ops_.clear(last_row_);
      for (const Tensor& history : histories_) ops_.clear(history);
      for (int64_t first = 0; first < rows; first += tile_) {
        run_tile(channel * rows + first, std::min(tile_, rows - first));
      }
    }
  }

 private:
  void run_tile(int64_t first, int64_t count) {
    const View padded = in_.slice_rows(0, 1 + count);
    ops_.copy(padded.slice_rows(0, 1), last_row_);
    ops_.copy(padded.slice_rows(1, count), x_.slice_rows(first, count));
    const int64_t outputs = factor_ * channels_;
    View x = out_.slice_cols(first * outputs, count * outputs).split_rows(count);
    ops_.conv1d(x, padded, up_, 2, 1, {.bias = up_bias_});
    ops_.copy(last_row_, padded.slice_rows(count, 1));
    x = x.split_rows(factor_);
    const auto input_of = [&](size_t unit) {
      return unit_inputs_[unit % 2].slice_rows(histories_[unit].rows(), x.rows);
    };
    ops_.copy(input_of(0), x);
    for (size_t i = 0; i < units_.size(); ++i) {
      const View history = histories_[i];
      const View input = unit_inputs_[i % 2].slice_rows(0, history.rows + x.rows);
      ops_.copy(input.slice_rows(0, history.rows), history);
      ops_.residual_unit(x, i + 1 < units_.size() ? input_of(i + 1) : View{}, input, units_[i]);
      ops_.copy(history, input.slice_rows(x.rows, history.rows));
    }
  }

  Ops& ops_;
  Tensor x_;  // [2 * rows, inputs]
  Matrix up_;
  Tensor up_bias_;
  std::vector<ResidualUnit> units_;
  int64_t channels_ = 0;
  int64_t factor_ = 0;
  int64_t tile_ = 0;  // rows of x
  Tensor out_;        // all rows without gaps
  Tensor in_;
  Tensor last_row_;
  std::vector<Tensor> histories_;
  std::array<Tensor, 2> unit_inputs_;
};

Piece make_wave(Ops& ops, const WeightStore& store, DType dtype) {
  const auto stage = std::make_shared<WaveStage>(ops, store, dtype);
  return {stage->out(), [stage] { stage->run(); }};
}

Piece make_piece(Ops& ops, const WeightStore& store, DType dtype) {
  if (store.contains("norm.scale")) return make_layer(ops, store, dtype);
  if (store.contains("scale_shift_table")) return make_flow(ops, store, dtype);
  return make_wave(ops, store, dtype);
}

void write(Ops& ops, ConstView out, const char* path) {
  std::vector<float> values(static_cast<size_t>(out.rows * out.cols));
  ops.download(values, out);
  const TensorToWrite tensor{"out", DType::kF32, {out.rows, out.cols}, std::as_bytes(std::span(values))};
  const std::vector<std::byte> bytes = encode_safetensors({&tensor, 1}, {});
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void serve(const char* path, const std::string& dtype, const char* out_path) {
  const std::unique_ptr<Ops> ops = make_cpu_ops({});
  const WeightStore store = WeightStore::open(path);
  const Piece piece = make_piece(*ops, store, dtype == "bf16" ? DType::kBF16 : DType::kF32);
  fmt::print("loaded {}\n", ops->description());
  std::fflush(stdout);
  piece.run();
  write(*ops, piece.out, out_path);
  fmt::print("ready\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const auto begin = std::chrono::steady_clock::now();
    piece.run();
    fmt::print("{}\n", std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace heartmula

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "peers_ours PIECE.safetensors f32|bf16 OUT.safetensors\n");
    return 2;
  }
  try {
    heartmula::serve(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "peers_ours: {}\n", error.what());
    return 1;
  }
  return 0;
}
