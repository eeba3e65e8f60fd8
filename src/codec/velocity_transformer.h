// The flow's velocity: two stacks of modulated transformer blocks over a whole window (codec.md A6).
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codec/config.h"
#include "codec/flow_schedule.h"
#include "ops/ops.h"
#include "ops/weights.h"

namespace heartmula {

class VelocityTransformer {
 public:
  static std::vector<ExpectedTensor> expected_tensors(const CodecConfig& config);
  /// For windows of up to `frames` latent frames.
  static VelocityTransformer load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype,
                                  int64_t frames);

  /// What a call writes, made once, for up to `batch` windows (guidance: two) of up to `frames` latent frames.
  struct Buffers;
  std::shared_ptr<Buffers> make_buffers(Ops& ops, int64_t batch, int64_t frames) const;
  /// The windows to come have so many latent frames each; what was put into their inputs is gone.
  void set_frames(Ops& ops, Buffers& buffers, int64_t frames) const;
  /// Where the caller puts window `item`'s input: [frames, in_channels] = latents, in-context latents, conditioning.
  View input(const Buffers& buffers, int64_t item) const;

  /// What the time of an evaluation does to every block: the same in every window, so it is made once.
  struct StackModulation {
    std::vector<Tensor> blocks;  // [6, D] each: shift, scale, gain of attention, then of the MLP
    Tensor last;                 // [2, D]: shift, scale
  };
  struct Modulation {
    StackModulation first;
    StackModulation second;
  };
  std::vector<Modulation> make_modulations(Ops& ops, size_t count) const;
  void modulate(Ops& ops, std::span<Modulation> modulations, std::span<const FlowEvaluation> evaluations) const;

  /// velocity [items * frames, out_channels], f32, of the first `items` inputs. Without `runs_first_stack` the second
  /// stack gets what the first one gave when it was last run.
  void forward(Ops& ops, View velocity, const Modulation& modulation, const Buffers& buffers, int64_t items,
               bool runs_first_stack = true) const;

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
    // A student's embedding of the interval, which is added to that of the time.
    Matrix interval_1;
    Tensor interval_bias_1;
    Matrix interval_2;
    Tensor interval_bias_2;
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
  void project(Ops& ops, View out, ConstView padded, const Projection& projection, View between, int64_t items) const;
  void modulate_stack(Ops& ops, const Stack& stack, const FlowEvaluation& evaluation, StackModulation& m) const;
  void run_stack(Ops& ops, const Stack& stack, const StackModulation& modulation, const StackBuffers& b,
                 int64_t items) const;
  void finish_stack(Ops& ops, View padded_out, const StackModulation& modulation, const StackBuffers& b,
                    int64_t items) const;

  CodecConfig config_;
  DType dtype_ = DType::kF32;
  Projection proj_in_;
  Projection connection_;
  Projection proj_out_;
  Stack first_;
  Stack second_;
};

}  // namespace heartmula
