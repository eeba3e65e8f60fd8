// Songs on their way through the language model, side by side (lm.md B6, B7).
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lm/frame_decoder.h"
#include "lm/kv_pages.h"

namespace heartmula {

/// Values that `heartmula verify` compares with the reference.
struct LmTaps {
  /// The last position's output of each block of the backbone, [streams, D].
  LayerTap backbone_layer;
};

/// What a batch has room for.
struct LmBatchSize {
  int64_t songs = 1;      // at once
  int64_t streams = 2;    // of a song, at most: conditional, then (with guidance) unconditional
  int64_t positions = 0;  // of the longest song: prompt and frames
  int64_t frames = 1;     // of a song in a pass, at most: the last one and drafts
  int64_t piece = 256;    // rows of a prompt, or of frames to go on from, in a pass, at most
  int64_t pages = 0;      // of keys and values, of all songs; 0: as many as they need if all are the longest

  /// Of the passes that make frames.
  int64_t rows() const { return songs * streams * frames; }
  /// Of the longest song, and of all songs if they are as long.
  int64_t pages_of_song() const { return streams * pages_of(positions); }
  int64_t most_pages() const { return songs * pages_of_song(); }
  /// What there is: always room for the longest song.
  int64_t room() const { return pages == 0 ? most_pages() : std::clamp(pages, pages_of_song(), most_pages()); }
};

/// What a song begins with.
struct SongBeginning {
  std::span<const int32_t> text_ids;  // [P]
  int64_t reference_index = 0;        // where the prompt has its style
  std::span<const float> muq_embed;   // the style vector; zeros if it is empty
  std::span<const Frame> frames;      // of an earlier run
  int64_t first_frame = 0;            // number of their first one in the song; those before are forgotten
};

/// A frame that the backbone shall take.
struct FedFrame {
  int64_t song = 0;
  Frame codes = {};
};

/// A song enters a place, its beginning is read piece by piece, and then its frames are made: `open` them, and
/// - let the device make frame after frame: begin_run, next_frames, next_frames, ... and keep, or
/// - make them step by step with decoder(), and keep those that stand.
/// Then open the next ones, of these songs or of others.
class LmBatch {
 public:
  LmBatch(Ops& ops, const HeartMula& model, const LmBatchSize& size);

  /// A new song in the place `song`, which is free; without a sampler its codes come from elsewhere.
  void enter(int64_t song, int64_t streams, std::unique_ptr<CodeSampler> sampler);
  /// Its pages are free again, and it begins anew.
  void restart(int64_t song);
  /// Room for the song's first `positions` positions (no more than size().positions count); false, and nothing has
  /// changed, if too few pages are free. What follows takes room by itself where it is free, and throws where not.
  bool make_room(int64_t song, int64_t positions);
  /// Of a song: what it has read, and its frames.
  int64_t positions(int64_t song) const;
  const KvPages& pages() const { return pages_; }
  bool has_pages(int64_t song) const { return !pages_.of(song * size_.streams).empty(); }
  /// That a song of so many positions, or one that rests, would have to take.
  int64_t missing_pages(int64_t song, int64_t positions) const;
  /// Hands the song's keys and values on, and gives back its pages; it rests until page_in.
  void page_out(int64_t song, const std::function<void(std::span<const std::byte>)>& write);
  /// The same in the same pieces back. False if too few pages are free.
  bool page_in(int64_t song, const std::function<void(std::span<std::byte>)>& read);

  /// Reads at most `most` more rows of the song's `beginning`, which is the same in every call; true if that was the
  /// last of it. Throws Error(kUser) if the style vector does not fit the model.
  bool prefill(int64_t song, const SongBeginning& beginning, int64_t most);
  /// Goes on at `position` as if everything before it had been keys and values of zero: a long context for
  /// measurements.
  void jump_to(int64_t song, int64_t position);

  /// Opens a frame behind each of `fed`, which goes through the backbone, and then the first one of each song of
  /// `fresh`, whose beginning was just read. Fed frames of one song lie together: the last one that was kept, then
  /// drafts. Only the first `layers` blocks take part, if it is not 0.
  void open(std::span<const FedFrame> fed, std::span<const int64_t> fresh, int64_t layers = 0);
  FrameDecoder& decoder() { return decoder_; }
  const FrameDecoder& decoder() const { return decoder_; }
  /// `count` more frames of the song stand for good.
  void keep(int64_t song, int64_t count) { place(song).frames += count; }

  /// Every song has one open frame.
  void begin_run();
  /// The next frame of every song, [open frames]; a code of -1 says that logits were not numbers. Where the device
  /// works ahead, it goes on with those that follow meanwhile, to no more than `end` of this run.
  void next_frames(std::span<Frame> frames, int64_t end);
  /// Frames of this run that were started, and how many of them were handed on.
  int64_t started() const { return started_; }
  int64_t collected() const { return collected_; }

  Ops& ops() const { return ops_; }
  const HeartMula& model() const { return model_; }
  const LmBatchSize& size() const { return size_; }
  void set_taps(LmTaps taps) { taps_ = std::move(taps); }

 private:
  struct Place {
    int64_t streams = 0;
    int64_t read = 0;     // positions of the beginning
    int64_t prompt = 0;   // positions of the text
    int64_t frames = 0;   // that stand for good, in the context
    int64_t first = 0;    // number of the first of them
    int64_t resting = 0;  // pages of each stream that are elsewhere
    std::unique_ptr<CodeSampler> sampler;
  };

  Place& place(int64_t song) { return places_[static_cast<size_t>(song)]; }
  View fresh_hidden(int64_t song) { return fresh_.slice_rows(song * size_.streams, place(song).streams); }
  void take_room(int64_t song, int64_t positions);
  void for_each_block(int64_t song, const std::function<void(KvCache& layer, int32_t page)>& body);
  void add_row(int64_t song, int64_t stream, int64_t position, int64_t repeat = 1);
  bool read_text(int64_t song, const SongBeginning& beginning, int64_t most);
  bool read_frames(int64_t song, std::span<const Frame> frames, int64_t most);
  void write_reference(View x, std::span<const float> muq_embed);
  void add_frame(int64_t song, int64_t position, const Frame& frame);
  void embed_frames();
  void run_backbone(const Rows& rows, int64_t count, int64_t layers = 0, const LayerTap& tap = {});
  void read_rows(int64_t song, bool last);
  void feed_codes();

  Ops& ops_;
  const HeartMula& model_;
  LmBatchSize size_;
  LmTaps taps_;
  std::vector<Place> places_;

  KvPages pages_;
  TransformerCache cache_;
  TransformerBuffers buffers_;
  Tensor x_;          // [most rows of a pass, D]
  Tensor fresh_;      // [songs * streams, D], weights' dtype: hidden states of songs whose beginning was read
  Tensor muq_embed_;  // [1, muq_dim], weights' dtype
  FrameDecoder decoder_;
  std::unique_ptr<Rows> pass_rows_;
  std::vector<Row> host_rows_;  // of the pass in hand
  std::vector<int32_t> ids_;    // of its inputs
  std::vector<OpenFrame> open_;
  std::vector<std::byte> block_;  // on its way

  // What programs use.
  std::unique_ptr<Rows> frame_rows_;  // the next position of each stream
  Tensor step_;                       // [1, 1], I32: of the run
  Tensor mailbox_;                    // [steps under way, rows * 8], I32
  std::vector<int32_t> posted_;
  std::unique_ptr<Program> sample_program_;
  std::unique_ptr<Program> feed_program_;
  int64_t started_ = 0;
  int64_t collected_ = 0;
};

}  // namespace heartmula
