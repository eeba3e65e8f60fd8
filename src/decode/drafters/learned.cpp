#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "decode/draft_model.h"
#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

/// What a song's drafter computes with, made at its first guess.
class Workplace {
 public:
  Workplace(const DraftModel& model, const DraftTask& task)
      : model_(model),
        ops_(task.batch.ops()),
        lm_(task.batch.model()),
        guidance_(task.rule.settings.guidance),
        streams_(task.rule.settings.streams()),
        frames_(task.batch.size().frames),
        width_(model.config.embed_dim),
        hidden_(ops_.allocate(model.dtype, 1, 2 * width_)),
        guided_(ops_.allocate(model.dtype, 1, width_)),
        depth_x_(ops_.allocate(DType::kF32, kCodebooks, model.config.depth.embed_dim)),
        depth_out_(ops_.allocate(model.dtype, 1, model.config.depth.embed_dim)),
        depth_cache_(model.depth.make_cache(ops_, 1, kCodebooks)),
        depth_buffers_(model.depth.make_buffers(ops_, kCodebooks)),
        logits_(ops_.allocate(DType::kF32, 1, model.config.audio_vocab_size)),
        codes_(ops_.allocate(DType::kI32, 1, kCodebooks)),
        number_(ops_.allocate(DType::kI32, 1, 1)) {
    SamplingRule rule = task.rule;
    rule.settings.guidance = 1;  // it is in what is drafted from already
    if (!task.tell) sampler_ = ops_.make_sampler(rule, task.noise);
    if (!model.config.drafts_frames()) return;
    past_ = ops_.allocate(model.dtype, frames_, 3 * width_);
    estimate_ = ops_.allocate(DType::kF32, 1, 2 * width_);
    if (!model.config.frame) return;
    frame_x_ = ops_.allocate(DType::kF32, frames_, model.config.frame->embed_dim);
    frame_out_ = ops_.allocate(model.dtype, 1, model.config.frame->embed_dim);
    frame_cache_ = model.frame.make_cache(ops_, 1, model.config.frame->max_seq_len);
    frame_buffers_ = model.frame.make_buffers(ops_, frames_);
  }

  /// The codes of frame `number` behind its first `known`, from what the model says of it.
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) {
    const std::optional<ConstView> said = hidden_of(task, number);
    if (!said) return;
    if (number != depth_number_) {
      copy_hidden(hidden_, *said);
      depth_number_ = number;
      depth_read_ = 0;
    }
    draw_rest(task, number, known, frame);
  }

  /// Up to `most` whole frames behind those that stand.
  void propose(const DraftTask& task, int64_t most, std::vector<Frame>& drafts) {
    if (std::ssize(task.frames) != next_ || past_count_ == 0) return;
    if (model_.config.frame) {
      draft_one_by_one(task, most, drafts);
    } else {
      draft_by_heads(task, std::min(most, model_.config.medusa_heads), drafts);
    }
  }

  /// Keeps what the model said of the frames that stand, until propose() reads it.
  void learn(const DraftTask& task, const DraftVerdict& verdict) {
    depth_number_ = -1;
    if (!model_.config.drafts_frames()) return;
    const std::optional<int64_t> first = first_open(task);
    if (!first || *first != next_) position_ = 0;  // others have made frames meanwhile
    past_count_ = 0;
    if (!first) return;
    for (const Frame& frame : verdict.frames) {
      const std::optional<ConstView> said = hidden_of(task, *first + past_count_);
      if (!said) break;
      const View row = past_.slice_rows(past_count_, 1);
      copy_hidden(row.slice_cols(0, 2 * width_), *said);
      embed_frame(row.slice_cols(2 * width_, width_), frame);
      ++past_count_;
    }
    next_ = *first + past_count_;
  }

 private:
  std::optional<int64_t> first_open(const DraftTask& task) const {
    for (const OpenFrame& open : task.batch.decoder().open_frames()) {
      if (open.song == task.place) return open.number;
    }
    return std::nullopt;
  }

  // [streams, D]
  std::optional<ConstView> hidden_of(const DraftTask& task, int64_t number) const {
    const FrameDecoder& decoder = task.batch.decoder();
    for (const OpenFrame& open : decoder.open_frames()) {
      if (open.song == task.place && open.number == number) {
        return decoder.hidden().slice_rows(open.row, open.streams);
      }
    }
    return std::nullopt;
  }

  // [streams, D] side by side, to [1, 2 D].
  void copy_hidden(View to, ConstView said) {
    ops_.copy(to.slice_cols(0, width_), said.slice_rows(0, 1));
    ops_.copy(to.slice_cols(width_, width_), said.slice_rows(streams_ - 1, 1));
  }

  void embed_frame(View to, const Frame& frame) {
    for (size_t q = 0; q < kCodebooks; ++q) {
      ids_[q] = frame[q] + static_cast<int32_t>(q) * static_cast<int32_t>(model_.config.audio_vocab_size);
    }
    ops_.embed_sum(to, lm_.audio_embeddings, ids_, kCodebooks);
  }

  void set_rows(std::unique_ptr<Rows>& rows, int64_t first, int64_t count, int64_t most) {
    if (!rows) rows = ops_.make_rows(most);
    host_rows_.clear();
    for (int64_t i = first; i < first + count; ++i) host_rows_.push_back({0, static_cast<int32_t>(i), 1});
    ops_.set_rows(*rows, host_rows_);
  }

  // Of the micro depth decoder, whose positions before depth_read_ hold this frame's hidden_ and codes.
  void draw_rest(const DraftTask& task, int64_t number, int64_t known, Frame& frame) {
    const auto same = std::ranges::mismatch(frame, depth_codes_).in1 - frame.begin();  // leading codes
    depth_read_ = std::min(depth_read_, std::min<int64_t>(known, same + 1));
    depth_codes_ = frame;
    ops_.upload(codes_, std::span<const int32_t>(frame));
    const auto number32 = static_cast<int32_t>(number);
    ops_.upload(number_, std::span(&number32, 1));
    for (int64_t codebook = known; codebook < kCodebooks; ++codebook) {
      const int64_t first = depth_read_;
      const int64_t count = codebook + 1 - first;
      const View x = depth_x_.slice_rows(0, count);
      for (int64_t position = first; position <= codebook; ++position) {
        const View row = x.slice_rows(position - first, 1);
        if (position == 0) {
          ops_.linear(row, hidden_, model_.depth_hidden);
        } else {
          ops_.embed_codes(row, model_.embeddings, codes_.slice_cols(position - 1, 1),
                           (position - 1) * model_.config.audio_vocab_size, 0);
        }
      }
      set_rows(depth_rows_, first, count, kCodebooks);
      model_.depth.forward(ops_, x, *depth_rows_, depth_cache_, depth_buffers_);
      model_.depth.normalize(ops_, depth_out_, x.slice_rows(count - 1, 1));
      ops_.linear(logits_, depth_out_, model_.heads[static_cast<size_t>(codebook - 1)]);
      draw(task, number, codebook);
      depth_read_ = codebook + 1;
    }
    ops_.download(std::span<int32_t>(frame), codes_);
    depth_codes_ = frame;
  }

  // Of logits_, into codes_.
  void draw(const DraftTask& task, int64_t number, int64_t codebook) {
    if (task.tell) return draw_from_told_chances(task, number, codebook);
    const SongSample sample = {sampler_.get(), logits_, number_, codes_.slice_cols(codebook, 1)};
    ops_.sample({&sample, 1}, static_cast<uint32_t>(codebook));
  }

  void draw_from_told_chances(const DraftTask& task, int64_t number, int64_t codebook) {
    host_logits_.resize(static_cast<size_t>(model_.config.audio_vocab_size));
    ops_.download(host_logits_, logits_);
    const ConstView view(host_logits_.data(), DType::kF32, 1, logits_.view().cols, logits_.view().cols);
    SamplingSettings settings = task.rule.settings;
    settings.guidance = 1;
    std::optional<CodeChances> chances = chances_of(settings, view, task.rule.allowed(number), scratch_);
    const int32_t code = chances ? drawn_code(chances->codes, chances->chances, task.noise, number, codebook) : -1;
    ops_.upload(codes_.slice_cols(codebook, 1), std::span(&code, 1));
    if (chances) task.tell(number, codebook, std::move(*chances));
  }

  // The frame `number`, of which hidden_ tells or is thought to.
  Frame draw_frame(const DraftTask& task, int64_t number) {
    ops_.guide(guided_, hidden_.slice_cols(0, width_), hidden_.slice_cols(width_, width_), guidance_);
    ops_.linear(logits_, guided_, lm_.first_head);
    const auto number32 = static_cast<int32_t>(number);
    ops_.upload(number_, std::span(&number32, 1));
    draw(task, number, 0);
    Frame frame = {};
    ops_.download(std::span<int32_t>(frame), codes_);
    depth_number_ = -1;
    depth_read_ = 0;
    draw_rest(task, number, 1, frame);
    return frame;
  }

  // Each draft takes the place of a frame that stands for the next one.
  void draft_one_by_one(const DraftTask& task, int64_t most, std::vector<Frame>& drafts) {
    const int64_t capacity = model_.config.frame->max_seq_len;
    if (position_ + past_count_ + most > capacity) position_ = 0;  // begins anew, without a past
    if (past_count_ + most > capacity) return;
    const int64_t read = position_ + past_count_;
    int64_t count = past_count_;
    for (int64_t i = 0; i < most; ++i) {
      const View x = frame_x_.slice_rows(0, count);
      ops_.linear(x, past_.slice_rows(0, count), model_.frame_input);
      set_rows(frame_rows_, position_, count, frames_);
      model_.frame.forward(ops_, x, *frame_rows_, frame_cache_, frame_buffers_);
      model_.frame.normalize(ops_, frame_out_, x.slice_rows(count - 1, 1));
      const View last = past_.slice_rows(count - 1, 1);
      ops_.copy(estimate_, last.slice_cols(0, 2 * width_));
      ops_.linear_add(estimate_, frame_out_, model_.frame_output);
      ops_.copy(hidden_, estimate_);
      drafts.push_back(draw_frame(task, next_ + i));
      // Those that stand are read; only drafts, which are to be written over, come behind.
      position_ += count;
      count = 1;
      ops_.copy(past_.slice_rows(0, 1).slice_cols(0, 2 * width_), hidden_);
      embed_frame(past_.slice_rows(0, 1).slice_cols(2 * width_, width_), drafts.back());
    }
    position_ = read;
    past_count_ = 0;
  }

  void draft_by_heads(const DraftTask& task, int64_t most, std::vector<Frame>& drafts) {
    const View said = past_.slice_rows(past_count_ - 1, 1).slice_cols(0, 2 * width_);
    for (int64_t i = 0; i < most; ++i) {
      const View rows = estimate_.view().split_rows(2);
      ops_.copy(hidden_, said);
      ops_.linear(rows, hidden_.view().split_rows(2), model_.medusa[static_cast<size_t>(i)]);
      ops_.silu(estimate_, estimate_);
      ops_.combine(estimate_, 1, estimate_, 1, said);
      ops_.copy(hidden_, estimate_);
      drafts.push_back(draw_frame(task, next_ + i));
    }
  }

  const DraftModel& model_;
  Ops& ops_;
  const HeartMula& lm_;
  float guidance_;
  int64_t streams_;
  int64_t frames_;  // that a step may tell of
  int64_t width_;   // D
  std::unique_ptr<CodeSampler> sampler_;

  Tensor hidden_;  // [1, 2 D]: of the frame in hand
  Tensor guided_;  // [1, D]
  Tensor depth_x_;
  Tensor depth_out_;
  TransformerCache depth_cache_;
  TransformerBuffers depth_buffers_;
  std::unique_ptr<Rows> depth_rows_;
  Tensor logits_;              // [1, V]
  Tensor codes_;               // [1, 8], I32
  Tensor number_;              // [1, 1], I32
  int64_t depth_number_ = -1;  // of the frame whose positions are read, if it was the model's own
  int64_t depth_read_ = 0;     // positions
  Frame depth_codes_ = {};     // that they hold

  Tensor past_;      // [frames, 3 D]: h and embeddings of frames that stand and were not read yet
  Tensor estimate_;  // [1, 2 D]
  Tensor frame_x_;
  Tensor frame_out_;
  TransformerCache frame_cache_;
  TransformerBuffers frame_buffers_;
  std::unique_ptr<Rows> frame_rows_;
  int64_t past_count_ = 0;
  int64_t position_ = 0;  // of the next frame that stands, in the frame drafter's cache
  int64_t next_ = -1;     // number of the frame behind those

  std::vector<float> host_logits_;
  SamplingScratch scratch_;
  std::array<int32_t, kCodebooks> ids_ = {};
  std::vector<Row> host_rows_;
};

class LearnedDrafter final : public Drafter {
 public:
  LearnedDrafter(std::shared_ptr<const DraftModel> model, bool drafts_frames)
      : model_(std::move(model)), drafts_frames_(drafts_frames) {}

  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    if (drafts_frames_) workplace(task).propose(task, task.most, drafts);
  }
  bool completes() const override { return true; }
  bool tells_chances() const override { return true; }
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) override {
    workplace(task).complete(task, number, known, frame);
  }
  void learn(const DraftTask& task, const DraftVerdict& verdict) override { workplace(task).learn(task, verdict); }

 private:
  Workplace& workplace(const DraftTask& task) {
    if (!workplace_) workplace_.emplace(*model_, task);
    return *workplace_;
  }

  std::shared_ptr<const DraftModel> model_;
  bool drafts_frames_;
  std::optional<Workplace> workplace_;
};

}  // namespace

std::unique_ptr<Drafter> make_learned_drafter(std::shared_ptr<const DraftModel> model, bool drafts_frames) {
  return std::make_unique<LearnedDrafter>(std::move(model), drafts_frames);
}

}  // namespace heartmula
