// The flow's velocity: two stacks of modulated transformer blocks over a whole window (codec.md A6).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "codec/config.h"
#include "ops/ops.h"
#include "ops/weights.h"

namespace heartmula {

class VelocityTransformer {
 public:
  static std::vector<ExpectedTensor> expected_tensors(const CodecConfig& config);
  /// For windows of `frames` latent frames.
  static VelocityTransformer load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype,
                                  int64_t frames);

  /// What a call writes, made once; `batch` windows at a time (guidance: two).
  struct Buffers;
  std::shared_ptr<Buffers> make_buffers(Ops& ops, int64_t batch) const;
  /// Where the caller puts window `item`'s input: [frames, in_channels] = latents, in-context latents, conditioning.
  View input(const Buffers& buffers, int64_t item) const;

  /// velocity [batch * frames, out_channels], f32, of the inputs at time t in [0, 1).
  void forward(Ops& ops, View velocity, float t, const Buffers& buffers) const;

 private:
  struct Projection {  // Linear(3^-0.5 * Conv1d(x)): the factor is folded into weight and bias
    Matrix conv;
    Tensor conv_bias;
    Matrix linear;
    Tensor linear_bias;
  };
  struct Timestep {  // adaln_single: time to the modulation of every block
    Matrix linear_1;
    Tensor bias_1;
    Matrix linear_2;
    Tensor bias_2;
    Matrix linear;
    Tensor bias;
  };
  struct Block {
    Tensor modulation;  // scale_shift_table [6, D]
    Tensor attention_norm;
    Matrix qkv;
    Matrix output;
    Tensor mlp_norm;
    Matrix gate_up;
    Matrix down;
  };
  struct Stack {
    int64_t width = 0;
    Timestep timestep;
    std::vector<Block> blocks;
    Tensor final_modulation;  // scale_shift_table [2, D]: shift, scale
    Rope rope;
  };
  struct StackBuffers;

  static Projection load_projection(const WeightLoader& load, const std::string& name);
  static Stack load_stack(Ops& ops, const WeightLoader& load, const CodecConfig& config, const std::string& suffix,
                          int64_t frames);
  void project(Ops& ops, View out, ConstView padded, const Projection& projection, View between, int64_t batch) const;
  void run_stack(Ops& ops, const Stack& stack, ConstView time_features, const Buffers& buffers,
                 const StackBuffers& b) const;
  void finish_stack(Ops& ops, View padded_out, const Stack& stack, const Buffers& buffers, const StackBuffers& b) const;

  CodecConfig config_;
  DType dtype_ = DType::kF32;
  int64_t frames_ = 0;
  Projection proj_in_;
  Projection connection_;
  Projection proj_out_;
  Stack first_;
  Stack second_;
};

}  // namespace heartmula
