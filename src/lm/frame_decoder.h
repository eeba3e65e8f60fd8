// From hidden states of the backbone to the eight codes of frames: the first head, the depth decoder and its heads.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "lm/heartmula.h"

namespace heartmula {

/// A frame in the making: the backbone has said what it must know of the frames before.
struct OpenFrame {
  int64_t song = 0;     // its place in the batch
  int64_t number = 0;   // in the song
  int64_t row = 0;      // its first one of hidden states and codes
  int64_t streams = 1;  // as many rows
  CodeSampler* sampler = nullptr;
};

/// The codes of all open frames at once: the weights are read once for all of them. `frames` are indices of
/// open_frames(), in ascending order. What is sampled depends on neither which other frames there are nor how the codes
/// before came.
class FrameDecoder {
 public:
  /// For open frames of at most `rows` rows. `with_drafts`: read_drafts will be called.
  FrameDecoder(Ops& ops, const HeartMula& model, int64_t rows, bool with_drafts);

  /// Hidden states after the final norm, [rows, D] in the weights' dtype: whoever opens frames writes them.
  View hidden() const { return hidden_; }
  /// Rows follow each other, frame by frame.
  void open(std::span<const OpenFrame> frames);
  std::span<const OpenFrame> open_frames() const { return open_; }
  /// Of the open frames.
  int64_t rows() const { return rows_; }

  /// All codes of all frames, one after the other. May be recorded.
  void sample_all();
  /// Code 0 of all frames.
  void sample_first();
  /// Code `codebook` (1 to 7) of frames that have all codes before it.
  void sample_next(int64_t codebook, std::span<const int64_t> frames);
  /// One pass of the depth decoder over a draft of each of these frames, of which the first `known` codes (1 to 7) are
  /// the frame's own and, if they are more than one, were read before.
  void read_drafts(std::span<const int64_t> frames, std::span<const Frame> drafts, std::span<const int64_t> known);
  /// Code `codebook` (1 to 7) of some of the frames whose drafts were read last, as it follows the draft's codes before
  /// it. Where those are the frame's own, sample_next may go on from here.
  void sample_drafted(int64_t codebook, std::span<const int64_t> frames);

  /// Logits of the code that was sampled last, of one of the frames for which it was, [its rows, V] on the host; valid
  /// until the next call.
  ConstView sampled_logits(int64_t frame);
  /// The frame takes `code` instead of what was sampled.
  void replace(int64_t frame, int64_t codebook, int32_t code);

  /// On the device, [rows, 8] I32: what was sampled.
  View codes() const { return codes_.slice_rows(0, rows_); }
  /// On the device, [rows, 1] I32: the frames' numbers.
  View numbers() const { return numbers_.slice_rows(0, rows_); }
  /// What was sampled so far, [open_frames()].
  std::span<const Frame> read_codes();

  /// Logits of codebook 0, [rows, V] on the host.
  std::span<const float> first_logits();
  /// Every frame takes `code` for the codebook before; logits of `codebook`, [rows, V] on the host.
  std::span<const float> next_logits(int64_t codebook, int32_t code);
  /// Logits of `codebook` (1 to 7) behind drafts that were read of all open frames, [rows, V] on the host.
  std::span<const float> drafted_logits(int64_t codebook);
  /// The depth decoder's output after its norm at its last position, [rows, Dd].
  ConstView depth_hidden() const { return depth_hidden_.slice_rows(0, rows_); }

 private:
  template <typename Call>
  void for_runs(std::span<const int64_t> frames, const Call& call) const;
  int64_t rows_of(std::span<const int64_t> frames) const;
  void copy_hidden(View out, std::span<const int64_t> frames);
  void embed(View out, std::span<const int64_t> frames, ConstView codes, int64_t codebook);
  void add_rows(std::span<const int64_t> frames, int64_t position);
  void pass(int64_t codebook, std::span<const int64_t> frames);
  void head(int64_t codebook, ConstView depth);
  void drafted_head(int64_t codebook);
  void sample(int64_t codebook, std::span<const int64_t> frames, std::span<const int64_t> pass_frames);
  std::span<const float> downloaded_logits();

  Ops& ops_;
  const HeartMula& model_;
  std::vector<OpenFrame> open_;
  std::vector<int64_t> all_;  // indices of open_
  int64_t rows_ = 0;

  Tensor hidden_;           // [rows, D], weights' dtype
  TransformerCache cache_;  // a stream for each row
  TransformerBuffers buffers_;
  Tensor in_;            // [rows of a pass, D], weights' dtype: what `projection` takes
  Tensor x_;             // [rows of a pass, Dd]
  Tensor depth_hidden_;  // [rows, Dd], weights' dtype
  Tensor logits_;        // [rows, V]
  Tensor codes_;         // [rows, 8], I32
  Tensor drafts_;        // [rows, 8], I32
  Tensor numbers_;       // [rows, 1], I32
  std::array<std::unique_ptr<Rows>, kCodebooks> all_rows_;  // of the pass for each codebook from 1 on, of all frames
  std::unique_ptr<Rows> some_rows_;
  /// Of the last read_drafts: the frames that were read at a position, and where their rows begin.
  std::array<std::vector<int64_t>, kCodebooks> drafted_;
  std::array<int64_t, kCodebooks + 1> drafted_rows_ = {};
  std::vector<Row> host_rows_;
  std::vector<int32_t> ids_;
  std::vector<SongSample> samples_;
  std::vector<ConstView> sampled_;  // logits of each open frame, where a code was sampled last
  std::vector<float> host_logits_;
  std::vector<int32_t> host_codes_;
  std::vector<Frame> host_frames_;
};

}  // namespace heartmula
