// The HeartMuLa language model: backbone, depth decoder, embeddings and heads (lm.md B1, B4, B6, B7).
#pragma once

#include <array>
#include <span>
#include <vector>

#include "lm/transformer.h"

namespace heartmula {

/// The weights, shared by all songs. The embedding tables stay in the mapped files until a row is touched.
struct HeartMula {
  LmConfig config;
  DType dtype = DType::kF32;
  Transformer backbone;
  Transformer decoder;
  Matrix projection;                         // [Dd, D]
  Matrix first_head;                         // codebook0_head [V, D]
  std::array<Matrix, kCodebooks - 1> heads;  // audio_head, transposed: [V, Dd] each
  Table text_embeddings;                     // [text vocabulary, D]
  Table audio_embeddings;                    // [8 V, D]
  Table unconditional_embedding;             // [1, D]
  Matrix muq_linear;                         // [D, muq_dim]; empty if the checkpoint has none
  Tensor muq_bias;                           // muq_linear of a style vector of zeros, [1, D]

  static std::vector<ExpectedTensor> expected_tensors(const LmConfig& config);
  /// WeightStore::require of these tensors, and of muq_linear.weight if it is there.
  static void require(const WeightStore& store, const LmConfig& config);
  /// Throws Error(kUser) if the store lacks a tensor or one has another shape. The store must outlive the model.
  static HeartMula load(Ops& ops, const WeightStore& store, const LmConfig& config, DType dtype);
};

/// Values that `heartmula verify` compares with the reference.
struct LmTaps {
  /// The last position's output of each block of the backbone, [streams, D].
  LayerTap backbone_layer;
};

/// One song on its way through the model. Stream 0 is conditional, stream 1 (with guidance) unconditional.
///
/// prefill, then the device makes frame after frame: begin_sampling, next_frame, next_frame, ...
/// Or step by step, with codes from elsewhere: first_logits, next_logits seven times, feed.
class LmSession {
 public:
  /// `capacity` is the longest sequence: prompt and frames. `piece` is the most rows of a prompt, or of frames to go
  /// on from, a pass takes.
  LmSession(Ops& ops, const HeartMula& model, int64_t streams, int64_t capacity, int64_t piece = kDefaultPiece);

  /// Reads the prompt (text_ids [P] with muq_linear of the style vector `muq_embed` at `reference_index`; zeros if it
  /// is empty) and the frames that the song begins with already. Throws Error(kUser) if a style vector does not fit the
  /// model.
  void prefill(std::span<const int32_t> text_ids, int64_t reference_index, std::span<const Frame> frames,
               std::span<const float> muq_embed = {});

  /// Goes on at `position` as if everything before it had been keys and values of zero: a long context for
  /// measurements.
  void jump_to(int64_t position) { position_ = position; }

  /// The next frame is number `first` of its song. `noise` must outlive the session.
  void begin_sampling(const SamplingRule& rule, const SamplingNoise& noise, int64_t first);
  /// The next frame, of a song with no more than `end` of them. Where the device works ahead, it goes on with those
  /// that follow meanwhile. Throws Error(kFailure) if logits were not numbers.
  Frame next_frame(int64_t end);

  /// Logits of codebook 0 of the next frame, [streams, V] on the host.
  std::span<const float> first_logits();
  /// Takes the code of codebook - 1; logits of `codebook` (1 to 7), [streams, V] on the host.
  std::span<const float> next_logits(int64_t codebook, int32_t previous_code);
  /// Takes the finished frame and moves on by one position.
  void feed(const Frame& frame);

  int64_t streams() const { return streams_; }
  int64_t position() const { return position_; }
  /// The backbone's output at the last position after the final norm, [streams, D].
  ConstView hidden() const { return hidden_; }
  /// The depth decoder's output after its norm at its last position, [streams, Dd].
  ConstView depth_hidden() const { return depth_hidden_; }
  void set_taps(LmTaps taps) { taps_ = std::move(taps); }

  static constexpr int64_t kDefaultPiece = 256;

 private:
  void write_reference(View x, std::span<const float> muq_embed);
  void take(std::span<const Frame> frames, bool last);
  void pass(bool last);
  void run_backbone(const Rows& rows, int64_t count, bool last);
  void start_frames(int64_t end);
  void sample_frame();
  void feed_codes();
  View depth_input(int64_t codebook);
  void depth_logits(int64_t codebook);
  std::span<const float> downloaded_logits();

  Ops& ops_;
  const HeartMula& model_;
  int64_t streams_;
  int64_t piece_;
  int64_t position_ = 0;
  LmTaps taps_;

  TransformerCache cache_;
  TransformerBuffers buffers_;
  Tensor x_;          // [most rows of a pass, D]
  Tensor hidden_;     // [streams, D], weights' dtype
  Tensor muq_embed_;  // [1, muq_dim], weights' dtype
  TransformerCache depth_cache_;
  TransformerBuffers depth_buffers_;
  Tensor depth_in_;      // [2 * streams, D], weights' dtype: what `projection` takes
  Tensor depth_x_;       // [2 * streams, Dd]
  Tensor depth_hidden_;  // [streams, Dd], weights' dtype
  std::array<std::unique_ptr<Rows>, kCodebooks - 1> depth_rows_;  // of the pass for each codebook from 1 on
  Tensor logits_;                                                 // [streams, V]
  std::vector<float> host_logits_;
  std::vector<Row> host_rows_;  // of the pass in hand
  std::unique_ptr<Rows> rows_;
  std::vector<int32_t> ids_;  // of its inputs

  // What programs use.
  std::unique_ptr<CodeSampler> sampler_;
  std::unique_ptr<Rows> frame_rows_;  // the next position of each stream
  Tensor codes_;                      // [streams, 8], I32: of the frame that was started last
  Tensor number_;                     // [1, 1], I32: of the next frame
  Tensor mailbox_;                    // [frames under way, 8], I32
  std::unique_ptr<Program> sample_program_;
  std::unique_ptr<Program> feed_program_;
  int64_t first_ = 0;      // number of the first frame that is sampled
  int64_t started_ = 0;    // number of the next frame to be started
  int64_t collected_ = 0;  // and collected
};

}  // namespace heartmula
