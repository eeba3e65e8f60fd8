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

void expect_stack(std::vector<ExpectedTensor>& expected, const std::string& suffix, int64_t layers, int64_t width,
                  bool is_student) {
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
  if (is_student) {
    const std::string interval = names.timestep + "interval_embedder.";
    expected.push_back({interval + "linear_1.weight", {width, 2 * kTimeFrequencies}});
    expected.push_back({interval + "linear_1.bias", {width}});
    expected.push_back({interval + "linear_2.weight", {width, width}});
    expected.push_back({interval + "linear_2.bias", {width}});
  }
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
  int64_t frames = 0;  // of the windows in hand, below each other in all of these
  View x;              // [batch * frames, D]
  View normed;         // [batch * frames, D]   weights' dtype, as everything that feeds a product
  View qkv;            // [batch * frames, 3 D]
  View mixed;          // [batch * frames, D]   weights' dtype; also between the two layers of a projection
  View hidden;         // [batch * frames, F]   weights' dtype

  StackBuffers first(int64_t rows) const {
    const auto cut = [rows](const View& view) { return view.slice_rows(0, rows); };
    return {frames, cut(x), cut(normed), cut(qkv), cut(mixed), cut(hidden)};
  }
};

struct VelocityTransformer::Buffers {
  // A row of zeros before and after each window: the padding of the convolutions.
  Tensor joined;  // [batch * (frames + 2), in_channels + D]   weights' dtype
  Tensor last;    // [batch * (frames + 2), 2 D]               weights' dtype
  Tensor out;     // [frames, out_channels]                    weights' dtype
  std::vector<Tensor> stack_memory;
  StackBuffers second;
  StackBuffers first;  // the first columns of the second's, which comes after it
};

std::vector<ExpectedTensor> VelocityTransformer::expected_tensors(const CodecConfig& c) {
  std::vector<ExpectedTensor> expected;
  expect_projection(expected, kPrefix + "proj_in.", c.width(), c.in_channels);
  expect_projection(expected, kPrefix + "connection_proj.", c.width_2(), c.in_channels + c.width());
  expect_projection(expected, kPrefix + "proj_out.", c.out_channels, c.width_2());
  expect_stack(expected, "", c.num_layers, c.width(), c.student.has_value());
  expect_stack(expected, "_2", c.num_layers_2, c.width_2(), c.student.has_value());
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
  Timestep& timestep = stack.timestep;
  timestep.linear_1 = load.matrix({embedder + "linear_1.weight"});
  timestep.bias_1 = load.vector(embedder + "linear_1.bias");
  timestep.linear_2 = load.matrix({embedder + "linear_2.weight"});
  timestep.bias_2 = load.vector(embedder + "linear_2.bias");
  timestep.linear = load.matrix({names.timestep + "linear.weight"});
  timestep.bias = load.vector(names.timestep + "linear.bias");
  if (config.student) {
    const std::string interval = names.timestep + "interval_embedder.";
    timestep.interval_1 = load.matrix({interval + "linear_1.weight"});
    timestep.interval_bias_1 = load.vector(interval + "linear_1.bias");
    timestep.interval_2 = load.matrix({interval + "linear_2.weight"});
    timestep.interval_bias_2 = load.vector(interval + "linear_2.bias");
  }
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
  transformer.proj_in_ = load_projection(load, kPrefix + "proj_in.");
  transformer.connection_ = load_projection(load, kPrefix + "connection_proj.");
  transformer.proj_out_ = load_projection(load, kPrefix + "proj_out.");
  transformer.first_ = load_stack(ops, load, config, "", frames);
  transformer.second_ = load_stack(ops, load, config, "_2", frames);
  return transformer;
}

std::shared_ptr<VelocityTransformer::Buffers> VelocityTransformer::make_buffers(Ops& ops, int64_t batch,
                                                                                int64_t frames) const {
  const int64_t rows = batch * frames;
  auto buffers = std::make_shared<Buffers>();
  buffers->joined = ops.allocate(dtype_, batch * (frames + 2), config_.in_channels + config_.width());
  buffers->last = ops.allocate(dtype_, batch * (frames + 2), config_.width_2());
  buffers->out = ops.allocate(dtype_, frames, config_.out_channels);
  const auto allocate = [&](DType dtype, int64_t cols) -> View {
    return buffers->stack_memory.emplace_back(ops.allocate(dtype, rows, cols));
  };
  const int64_t wide = config_.width_2();
  const StackBuffers b = buffers->second = {
      .frames = frames,
      .x = allocate(DType::kF32, wide),
      .normed = allocate(dtype_, wide),
      .qkv = allocate(DType::kF32, 3 * wide),
      .mixed = allocate(dtype_, wide),
      .hidden = allocate(dtype_, CodecConfig::mlp_width(wide)),
  };
  const int64_t width = config_.width();
  buffers->first = {
      .frames = frames,
      .x = b.x.slice_cols(0, width),
      .normed = b.normed.slice_cols(0, width),
      .qkv = b.qkv.slice_cols(0, 3 * width),
      .mixed = b.mixed.slice_cols(0, width),
      .hidden = b.hidden.slice_cols(0, CodecConfig::mlp_width(width)),
  };
  return buffers;
}

void VelocityTransformer::set_frames(Ops& ops, Buffers& buffers, int64_t frames) const {
  if (buffers.first.frames == frames) return;
  buffers.first.frames = buffers.second.frames = frames;
  ops.clear(buffers.joined);  // rows of zeros have other places now
  ops.clear(buffers.last);
}

View VelocityTransformer::input(const Buffers& buffers, int64_t item) const {
  const int64_t frames = buffers.first.frames;
  return buffers.joined.slice_rows(item * (frames + 2) + 1, frames).slice_cols(0, config_.in_channels);
}

std::vector<VelocityTransformer::Modulation> VelocityTransformer::make_modulations(Ops& ops, size_t count) const {
  std::vector<Modulation> modulations(count);
  const auto allocate = [&ops](const Stack& stack, StackModulation& m) {
    for (size_t i = 0; i < stack.blocks.size(); ++i) m.blocks.push_back(ops.allocate(DType::kF32, 6, stack.width));
    m.last = ops.allocate(DType::kF32, 2, stack.width);
  };
  for (Modulation& modulation : modulations) {
    allocate(first_, modulation.first);
    allocate(second_, modulation.second);
  }
  return modulations;
}

void VelocityTransformer::modulate(Ops& ops, std::span<Modulation> modulations,
                                   std::span<const FlowEvaluation> evaluations) const {
  for (size_t i = 0; i < evaluations.size(); ++i) {
    modulate_stack(ops, first_, evaluations[i], modulations[i].first);
    modulate_stack(ops, second_, evaluations[i], modulations[i].second);
  }
}

void VelocityTransformer::modulate_stack(Ops& ops, const Stack& stack, const FlowEvaluation& evaluation,
                                         StackModulation& m) const {
  const int64_t width = stack.width;
  const Timestep& w = stack.timestep;
  const Tensor features = ops.allocate(dtype_, 1, 2 * kTimeFrequencies);
  const Tensor activated = ops.allocate(dtype_, 1, width);
  const auto embed = [&](float t, const Matrix& linear_1, ConstView bias_1, const Matrix& linear_2, ConstView bias_2) {
    Tensor embedding = ops.allocate(DType::kF32, 1, width);
    ops.upload(features, time_features(t));  // [1, 512]
    ops.linear(embedding, features, linear_1, bias_1);
    ops.silu(activated, embedding);
    ops.linear(embedding, activated, linear_2, bias_2);
    return embedding;
  };
  const Tensor time = embed(evaluation.t, w.linear_1, w.bias_1, w.linear_2, w.bias_2);
  if (config_.student) {
    const Tensor interval =
        embed(evaluation.interval, w.interval_1, w.interval_bias_1, w.interval_2, w.interval_bias_2);
    ops.combine(time, 1.0f, time, 1.0f, interval);
  }
  const Tensor of_blocks = ops.allocate(DType::kF32, 1, 6 * width);
  ops.silu(activated, time);
  ops.linear(of_blocks, activated, w.linear, w.bias);
  for (size_t i = 0; i < stack.blocks.size(); ++i) {
    ops.combine(m.blocks[i], 1.0f, stack.blocks[i].modulation, 1.0f, of_blocks.view().split_rows(6));
  }
  // Shift and scale of the end take the time's embedding itself, before the linear layer of the blocks' modulation.
  for (int64_t row = 0; row < 2; ++row) {
    ops.combine(m.last.slice_rows(row, 1), 1.0f, stack.final_modulation.slice_rows(row, 1), 1.0f, time);
  }
}

// out [items * frames, D] = Linear(3^-0.5 * Conv1d(padded [items * (frames + 2), K])), `between` [frames or more, D]
void VelocityTransformer::project(Ops& ops, View out, ConstView padded, const Projection& projection, View between,
                                  int64_t items) const {
  const int64_t frames = out.rows / items;
  const View middle = between.slice_rows(0, frames);
  for (int64_t item = 0; item < items; ++item) {
    ops.conv1d(middle, padded.slice_rows(item * (frames + 2), frames + 2), projection.conv, kConvTaps, 1,
               {.bias = projection.conv_bias});
    ops.linear(out.slice_rows(item * frames, frames), middle, projection.linear, projection.linear_bias);
  }
}

void VelocityTransformer::run_stack(Ops& ops, const Stack& stack, const StackModulation& modulation,
                                    const StackBuffers& b, int64_t items) const {
  const int64_t width = stack.width;
  const View keys = b.qkv.slice_cols(width, width);
  const View values = b.qkv.slice_cols(2 * width, width);
  const View queries = b.qkv.slice_cols(0, width);
  for (size_t i = 0; i < stack.blocks.size(); ++i) {
    const Block& block = stack.blocks[i];
    const View m = modulation.blocks[i];
    const View shift_1 = m.slice_rows(0, 1), scale_1 = m.slice_rows(1, 1), gain_1 = m.slice_rows(2, 1);
    const View shift_2 = m.slice_rows(3, 1), scale_2 = m.slice_rows(4, 1), gain_2 = m.slice_rows(5, 1);

    ops.rms_norm_modulated(b.normed, b.x, block.attention_norm, scale_1, shift_1, kNormEps);  // [B T, D]
    ops.linear(b.qkv, b.normed, block.qkv);                                                   // [B T, 3 D]
    ops.attend_all(b.mixed, queries, keys, values, stack.rope, config_.num_heads, items);
    ops.linear_add_scaled(b.x, b.mixed, block.output, gain_1);  // x += g1 Wo mixed
    ops.rms_norm_modulated(b.normed, b.x, block.mlp_norm, scale_2, shift_2, kNormEps);
    ops.linear_silu_gate(b.hidden, b.normed, block.gate_up);  // [B T, F]
    ops.linear_add_scaled(b.x, b.hidden, block.down, gain_2);
  }
}

// LN(x) (1 + scale) + shift into the middle rows of each padded window
void VelocityTransformer::finish_stack(Ops& ops, View padded_out, const StackModulation& modulation,
                                       const StackBuffers& b, int64_t items) const {
  const View shift = modulation.last.slice_rows(0, 1);
  const View scale = modulation.last.slice_rows(1, 1);
  for (int64_t item = 0; item < items; ++item) {
    ops.layer_norm_modulated(padded_out.slice_rows(item * (b.frames + 2) + 1, b.frames),
                             b.x.slice_rows(item * b.frames, b.frames), scale, shift, kNormEps);
  }
}

void VelocityTransformer::forward(Ops& ops, View velocity, const Modulation& modulation, const Buffers& buffers,
                                  int64_t items, bool runs_first_stack) const {
  const View joined = buffers.joined;
  const StackBuffers first = buffers.first.first(items * buffers.first.frames);
  const StackBuffers second = buffers.second.first(items * buffers.second.frames);

  if (runs_first_stack) {
    project(ops, first.x, joined.slice_cols(0, config_.in_channels), proj_in_, first.mixed, items);
    run_stack(ops, first_, modulation.first, first, items);
    finish_stack(ops, joined.slice_cols(config_.in_channels, config_.width()), modulation.first, first, items);
  }
  project(ops, second.x, joined, connection_, second.mixed, items);
  run_stack(ops, second_, modulation.second, second, items);
  finish_stack(ops, buffers.last, modulation.second, second, items);

  project(ops, velocity, buffers.last, proj_out_, buffers.out, items);
}

}  // namespace heartmula
