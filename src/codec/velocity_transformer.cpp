#include "codec/velocity_transformer.h"

#include <cmath>

#include "ops/rope.h"

namespace heartmula {
namespace {

constexpr float kNormEps = 1e-6f;
constexpr int64_t kTimeFrequencies = 256;
constexpr double kRopeBase = 10000.0;
constexpr int64_t kConvTaps = 3;
const std::string kPrefix = "flow_matching.estimator.";

struct StackNames {
  std::string blocks;
  std::string timestep;
  std::string table;
};

StackNames stack_names(const std::string& suffix) {
  return {kPrefix + "transformer_blocks" + suffix + ".", kPrefix + "adaln_single" + suffix + ".",
          kPrefix + "scale_shift_table" + suffix};
}

void expect_projection(std::vector<ExpectedTensor>& expected, const std::string& name, int64_t out, int64_t in) {
  expected.push_back({name + "ffn_1.weight", {out, in, kConvTaps}});
  expected.push_back({name + "ffn_1.bias", {out}});
  expected.push_back({name + "ffn_2.weight", {out, out}});
  expected.push_back({name + "ffn_2.bias", {out}});
}

void expect_stack(std::vector<ExpectedTensor>& expected, const std::string& suffix, int64_t layers, int64_t width) {
  const StackNames names = stack_names(suffix);
  const int64_t mlp = CodecConfig::mlp_width(width);
  const std::string embedder = names.timestep + "emb.timestep_embedder.";
  expected.push_back({names.table, {2, width}});
  expected.push_back({embedder + "linear_1.weight", {width, 2 * kTimeFrequencies}});
  expected.push_back({embedder + "linear_1.bias", {width}});
  expected.push_back({embedder + "linear_2.weight", {width, width}});
  expected.push_back({embedder + "linear_2.bias", {width}});
  expected.push_back({names.timestep + "linear.weight", {6 * width, width}});
  expected.push_back({names.timestep + "linear.bias", {6 * width}});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string block = names.blocks + std::to_string(i) + ".";
    expected.push_back({block + "scale_shift_table", {6, width}});
    expected.push_back({block + "attn_norm.weight", {width}});
    expected.push_back({block + "mlp_norm.weight", {width}});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      expected.push_back({block + "attn." + name + ".weight", {width, width}});
    }
    expected.push_back({block + "mlp.gate.weight", {mlp, width}});
    expected.push_back({block + "mlp.up.weight", {mlp, width}});
    expected.push_back({block + "mlp.down.weight", {width, mlp}});
  }
}

// cos, then sin, of 1000 t f_i: every operation rounded to f32 (codec.md A6).
std::vector<float> time_features(float t) {
  std::vector<float> features(2 * kTimeFrequencies);
  for (int64_t i = 0; i < kTimeFrequencies; ++i) {
    const float log_step = static_cast<float>(-std::log(10000.0));
    const float exponent = log_step * static_cast<float>(i) / static_cast<float>(kTimeFrequencies);
    const float frequency = static_cast<float>(std::exp(static_cast<double>(exponent)));
    const double angle = t * frequency * 1000.0f;
    features[static_cast<size_t>(i)] = static_cast<float>(std::cos(angle));
    features[static_cast<size_t>(i + kTimeFrequencies)] = static_cast<float>(std::sin(angle));
  }
  return features;
}

}  // namespace

struct VelocityTransformer::StackBuffers {
  View x;                 // [batch * frames, D]
  View normed;            // [batch * frames, D]   weights' dtype, as everything that feeds a product
  View qkv;               // [batch * frames, 3 D]
  View mixed;             // [batch * frames, D]   weights' dtype; also between the two layers of a projection
  View hidden;            // [batch * frames, F]   weights' dtype
  View time_in;           // [1, D]                weights' dtype
  View time;              // [1, D]                the time's embedding
  View modulation;        // [1, 6 D]              of this time
  View block_modulation;  // [6, D]
};

struct VelocityTransformer::Buffers {
  int64_t batch = 0;
  // A row of zeros before and after each window: the padding of the convolutions.
  Tensor joined;    // [batch * (frames + 2), in_channels + D]   weights' dtype
  Tensor last;      // [batch * (frames + 2), 2 D]               weights' dtype
  Tensor out;       // [frames, out_channels]                    weights' dtype
  Tensor features;  // [1, 512]                                  weights' dtype
  std::vector<Tensor> stack_memory;
  StackBuffers second;
  StackBuffers first;  // the first columns of the second's, which comes after it
};

std::vector<ExpectedTensor> VelocityTransformer::expected_tensors(const CodecConfig& c) {
  std::vector<ExpectedTensor> expected;
  expect_projection(expected, kPrefix + "proj_in.", c.width(), c.in_channels);
  expect_projection(expected, kPrefix + "connection_proj.", c.width_2(), c.in_channels + c.width());
  expect_projection(expected, kPrefix + "proj_out.", c.out_channels, c.width_2());
  expect_stack(expected, "", c.num_layers, c.width());
  expect_stack(expected, "_2", c.num_layers_2, c.width_2());
  return expected;
}

VelocityTransformer::Projection VelocityTransformer::load_projection(const WeightLoader& load,
                                                                     const std::string& name) {
  const auto factor = static_cast<float>(1.0 / std::sqrt(3.0));
  std::vector<float> conv_bias = load.values(name + "ffn_1.bias");
  for (float& value : conv_bias) value *= factor;
  return {load.conv(name + "ffn_1.weight", factor), load.upload(conv_bias, 1), load.matrix({name + "ffn_2.weight"}),
          load.vector(name + "ffn_2.bias")};
}

VelocityTransformer::Stack VelocityTransformer::load_stack(Ops& ops, const WeightLoader& load,
                                                           const CodecConfig& config, const std::string& suffix,
                                                           int64_t frames) {
  const StackNames names = stack_names(suffix);
  const std::string embedder = names.timestep + "emb.timestep_embedder.";
  const int64_t scale = suffix.empty() ? 1 : 2;
  Stack stack;
  stack.width = scale * config.width();
  stack.timestep = {load.matrix({embedder + "linear_1.weight"}),     load.vector(embedder + "linear_1.bias"),
                    load.matrix({embedder + "linear_2.weight"}),     load.vector(embedder + "linear_2.bias"),
                    load.matrix({names.timestep + "linear.weight"}), load.vector(names.timestep + "linear.bias")};
  for (int64_t i = 0; i < (suffix.empty() ? config.num_layers : config.num_layers_2); ++i) {
    const std::string name = names.blocks + std::to_string(i) + ".";
    Block block;
    block.modulation = load.table(name + "scale_shift_table", 6);
    block.attention_norm = load.vector(name + "attn_norm.weight");
    block.qkv = load.matrix({name + "attn.q_proj.weight", name + "attn.k_proj.weight", name + "attn.v_proj.weight"});
    block.output = load.matrix({name + "attn.o_proj.weight"});
    block.mlp_norm = load.vector(name + "mlp_norm.weight");
    block.gate_up = load.gate_up(name + "mlp.gate.weight", name + "mlp.up.weight");
    block.down = load.matrix({name + "mlp.down.weight"});
    stack.blocks.push_back(std::move(block));
  }
  stack.final_modulation = load.table(names.table, 2);
  stack.rope = make_rope(ops, rope_frequencies(scale * config.head_dim, kRopeBase), frames);
  return stack;
}

VelocityTransformer VelocityTransformer::load(Ops& ops, const WeightStore& store, const CodecConfig& config,
                                              DType dtype, int64_t frames) {
  const WeightLoader load(ops, store, dtype);
  VelocityTransformer transformer;
  transformer.config_ = config;
  transformer.dtype_ = dtype;
  transformer.frames_ = frames;
  transformer.proj_in_ = load_projection(load, kPrefix + "proj_in.");
  transformer.connection_ = load_projection(load, kPrefix + "connection_proj.");
  transformer.proj_out_ = load_projection(load, kPrefix + "proj_out.");
  transformer.first_ = load_stack(ops, load, config, "", frames);
  transformer.second_ = load_stack(ops, load, config, "_2", frames);
  return transformer;
}

std::shared_ptr<VelocityTransformer::Buffers> VelocityTransformer::make_buffers(Ops& ops, int64_t batch) const {
  const int64_t rows = batch * frames_;
  auto buffers = std::make_shared<Buffers>();
  buffers->batch = batch;
  buffers->joined = ops.allocate(dtype_, batch * (frames_ + 2), config_.in_channels + config_.width());
  buffers->last = ops.allocate(dtype_, batch * (frames_ + 2), config_.width_2());
  buffers->out = ops.allocate(dtype_, frames_, config_.out_channels);
  buffers->features = ops.allocate(dtype_, 1, 2 * kTimeFrequencies);
  const auto allocate = [&](DType dtype, int64_t allocated_rows, int64_t cols) -> View {
    return buffers->stack_memory.emplace_back(ops.allocate(dtype, allocated_rows, cols));
  };
  const int64_t wide = config_.width_2();
  const StackBuffers b = buffers->second = {
      .x = allocate(DType::kF32, rows, wide),
      .normed = allocate(dtype_, rows, wide),
      .qkv = allocate(DType::kF32, rows, 3 * wide),
      .mixed = allocate(dtype_, rows, wide),
      .hidden = allocate(dtype_, rows, CodecConfig::mlp_width(wide)),
      .time_in = allocate(dtype_, 1, wide),
      .time = allocate(DType::kF32, 1, wide),
      .modulation = allocate(DType::kF32, 1, 6 * wide),
      .block_modulation = allocate(DType::kF32, 6, wide),
  };
  const int64_t width = config_.width();
  buffers->first = {
      .x = b.x.slice_cols(0, width),
      .normed = b.normed.slice_cols(0, width),
      .qkv = b.qkv.slice_cols(0, 3 * width),
      .mixed = b.mixed.slice_cols(0, width),
      .hidden = b.hidden.slice_cols(0, CodecConfig::mlp_width(width)),
      .time_in = b.time_in.slice_cols(0, width),
      .time = b.time.slice_cols(0, width),
      .modulation = b.modulation.slice_cols(0, 6 * width),
      .block_modulation = b.block_modulation.slice_cols(0, width),
  };
  return buffers;
}

View VelocityTransformer::input(const Buffers& buffers, int64_t item) const {
  return buffers.joined.slice_rows(item * (frames_ + 2) + 1, frames_).slice_cols(0, config_.in_channels);
}

// out [batch * frames, D] = Linear(3^-0.5 * Conv1d(padded [batch * (frames + 2), K])), `between` [frames or more, D]
void VelocityTransformer::project(Ops& ops, View out, ConstView padded, const Projection& projection, View between,
                                  int64_t batch) const {
  const View middle = between.slice_rows(0, frames_);
  for (int64_t item = 0; item < batch; ++item) {
    ops.conv1d(middle, padded.slice_rows(item * (frames_ + 2), frames_ + 2), projection.conv, kConvTaps, 1,
               {.bias = projection.conv_bias});
    ops.linear(out.slice_rows(item * frames_, frames_), middle, projection.linear, projection.linear_bias);
  }
}

void VelocityTransformer::run_stack(Ops& ops, const Stack& stack, ConstView features, const Buffers& buffers,
                                    const StackBuffers& b) const {
  const int64_t width = stack.width;
  ops.linear(b.time, features, stack.timestep.linear_1, stack.timestep.bias_1);
  ops.silu(b.time_in, b.time);
  ops.linear(b.time, b.time_in, stack.timestep.linear_2, stack.timestep.bias_2);  // [1, D]
  ops.silu(b.time_in, b.time);
  ops.linear(b.modulation, b.time_in, stack.timestep.linear, stack.timestep.bias);  // [1, 6 D]

  const View keys = b.qkv.slice_cols(width, width);
  const View values = b.qkv.slice_cols(2 * width, width);
  const View queries = b.qkv.slice_cols(0, width);
  for (const Block& block : stack.blocks) {
    const View m = b.block_modulation;
    ops.combine(m, 1.0f, block.modulation, 1.0f, b.modulation.split_rows(6));
    const View shift_1 = m.slice_rows(0, 1), scale_1 = m.slice_rows(1, 1), gain_1 = m.slice_rows(2, 1);
    const View shift_2 = m.slice_rows(3, 1), scale_2 = m.slice_rows(4, 1), gain_2 = m.slice_rows(5, 1);

    ops.rms_norm_modulated(b.normed, b.x, block.attention_norm, scale_1, shift_1, kNormEps);  // [B T, D]
    ops.linear(b.qkv, b.normed, block.qkv);                                                   // [B T, 3 D]
    ops.attend_all(b.mixed, queries, keys, values, stack.rope, config_.num_heads, buffers.batch);
    ops.linear_add_scaled(b.x, b.mixed, block.output, gain_1);  // x += g1 Wo mixed
    ops.rms_norm_modulated(b.normed, b.x, block.mlp_norm, scale_2, shift_2, kNormEps);
    ops.linear_silu_gate(b.hidden, b.normed, block.gate_up);  // [B T, F]
    ops.linear_add_scaled(b.x, b.hidden, block.down, gain_2);
  }
}

// LN(x) (1 + scale) + shift into the middle rows of each padded window; shift and scale are the table's rows plus the
// time's embedding itself, before the linear layer of the modulation.
void VelocityTransformer::finish_stack(Ops& ops, View padded_out, const Stack& stack, const Buffers& buffers,
                                       const StackBuffers& b) const {
  const View shift = b.block_modulation.slice_rows(0, 1);
  const View scale = b.block_modulation.slice_rows(1, 1);
  ops.combine(shift, 1.0f, stack.final_modulation.slice_rows(0, 1), 1.0f, b.time);
  ops.combine(scale, 1.0f, stack.final_modulation.slice_rows(1, 1), 1.0f, b.time);
  for (int64_t item = 0; item < buffers.batch; ++item) {
    ops.layer_norm_modulated(padded_out.slice_rows(item * (frames_ + 2) + 1, frames_),
                             b.x.slice_rows(item * frames_, frames_), scale, shift, kNormEps);
  }
}

void VelocityTransformer::forward(Ops& ops, View velocity, float t, const Buffers& b) const {
  ops.upload(b.features, time_features(t));  // [1, 512]
  const View joined = b.joined;

  project(ops, b.first.x, joined.slice_cols(0, config_.in_channels), proj_in_, b.first.mixed, b.batch);
  run_stack(ops, first_, b.features, b, b.first);
  finish_stack(ops, joined.slice_cols(config_.in_channels, config_.width()), first_, b, b.first);

  project(ops, b.second.x, joined, connection_, b.second.mixed, b.batch);
  run_stack(ops, second_, b.features, b, b.second);
  finish_stack(ops, b.last, second_, b, b.second);

  project(ops, velocity, b.last, proj_out_, b.out, b.batch);
}

}  // namespace heartmula
