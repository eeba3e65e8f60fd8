#include <algorithm>

#include "base/error.h"
#include "lm/heartmula.h"

namespace heartmula {
namespace {

// Positions 0 and 1 of the depth decoder, the hidden state and code 0, go in one pass; then a code a pass.
int64_t first_depth_position(int64_t codebook) {
  return codebook == 1 ? 0 : codebook;
}

// Frames under way at most, where the device works ahead.
constexpr int64_t kMostStarted = 3;

// Of a pass: a piece of the prompt and the row that stands for the other one, or a frame for each stream.
int64_t most_rows(int64_t piece, int64_t streams) {
  return std::max(piece + 1, streams);
}

}  // namespace

LmSession::LmSession(Ops& ops, const HeartMula& model, int64_t streams, int64_t capacity, int64_t piece)
    : ops_(ops),
      model_(model),
      streams_(streams),
      piece_(piece),
      cache_(model.backbone.make_cache(ops, streams, capacity)),
      buffers_(model.backbone.make_buffers(ops, most_rows(piece, streams))),
      x_(ops.allocate(DType::kF32, most_rows(piece, streams), model.config.backbone.embed_dim)),
      hidden_(ops.allocate(model.dtype, streams, model.config.backbone.embed_dim)),
      muq_embed_(ops.allocate(model.dtype, 1, model.config.muq_dim)),
      depth_cache_(model.decoder.make_cache(ops, streams, kCodebooks)),
      depth_buffers_(model.decoder.make_buffers(ops, 2 * streams)),
      depth_in_(ops.allocate(model.dtype, 2 * streams, model.config.backbone.embed_dim)),
      depth_x_(ops.allocate(DType::kF32, 2 * streams, model.config.decoder.embed_dim)),
      depth_hidden_(ops.allocate(model.dtype, streams, model.config.decoder.embed_dim)),
      logits_(ops.allocate(DType::kF32, streams, model.config.audio_vocab_size)),
      host_logits_(static_cast<size_t>(streams * model.config.audio_vocab_size)) {
  host_rows_.reserve(static_cast<size_t>(most_rows(piece, streams)));
  ids_.reserve(static_cast<size_t>(most_rows(piece, streams) * kCodebooks));
  rows_ = ops.make_rows(most_rows(piece, streams));
  frame_rows_ = ops.make_rows(streams);
  codes_ = ops.allocate(DType::kI32, streams, kCodebooks);
  number_ = ops.allocate(DType::kI32, 1, 1);
  mailbox_ = ops.make_mailbox(kMostStarted, kCodebooks);
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) {
    std::vector<Row> rows;
    for (int64_t position = first_depth_position(codebook); position <= codebook; ++position) {
      for (int64_t stream = 0; stream < streams; ++stream) {
        rows.push_back({static_cast<int32_t>(stream), static_cast<int32_t>(position), 1});
      }
    }
    std::unique_ptr<Rows>& placed = depth_rows_[static_cast<size_t>(codebook - 1)];
    placed = ops.make_rows(2 * streams);
    ops.set_rows(*placed, rows);
  }
}

// The prompt's unconditional inputs are all equal, so its hidden states are too, in every layer: one row stands for
// them all, with its key rotated to each position (lm.md B6). It goes with the last piece.
void LmSession::prefill(std::span<const int32_t> text_ids, int64_t reference_index, std::span<const Frame> frames,
                        std::span<const float> muq_embed) {
  const auto prompt = static_cast<int64_t>(text_ids.size());
  for (int64_t first = 0; first < prompt; first += piece_) {
    const int64_t count = std::min(piece_, prompt - first);
    const bool last = first + count == prompt;
    host_rows_.clear();
    for (int64_t i = 0; i < count; ++i) host_rows_.push_back({0, static_cast<int32_t>(first + i), 1});
    ops_.embed_sum(x_.slice_rows(0, count), model_.text_embeddings,
                   text_ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), 1);
    if (reference_index >= first && reference_index < first + count) {
      write_reference(x_.slice_rows(reference_index - first, 1), muq_embed);
    }
    if (last && streams_ > 1) {
      host_rows_.push_back({1, 0, static_cast<int32_t>(prompt)});
      const int32_t only = 0;
      ops_.embed_sum(x_.slice_rows(count, 1), model_.unconditional_embedding, {&only, 1}, 1);
    }
    pass(last);
  }
  position_ = prompt;

  const auto kept = static_cast<int64_t>(frames.size());
  const int64_t frames_a_pass = std::max<int64_t>(1, piece_ / streams_);
  for (int64_t first = 0; first < kept; first += frames_a_pass) {
    const int64_t count = std::min(frames_a_pass, kept - first);
    take(frames.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first + count == kept);
  }
}

// x [1, D]: what stands in the conditional row where the prompt has its style; the other row has none.
void LmSession::write_reference(View x, std::span<const float> muq_embed) {
  if (muq_embed.empty()) {
    ops_.copy(x, model_.muq_bias);
    return;
  }
  if (static_cast<int64_t>(muq_embed.size()) != model_.config.muq_dim) {
    throw user_error("the style vector has {} numbers, but the model takes {}", muq_embed.size(),
                     model_.config.muq_dim);
  }
  if (model_.muq_linear.n() == 0) {
    throw user_error(
        "the checkpoint has no muq_linear.weight, so it takes no style vector; if it is packed, convert "
        "the stock one again");
  }
  ops_.upload(muq_embed_, muq_embed);
  ops_.linear(x, muq_embed_, model_.muq_linear, model_.muq_bias);  // [1, D]
}

void LmSession::feed(const Frame& frame) {
  take({&frame, 1}, true);
}

// Every stream gets the same frames.
void LmSession::take(std::span<const Frame> frames, bool last) {
  host_rows_.clear();
  ids_.clear();
  for (const Frame& frame : frames) {
    for (int64_t stream = 0; stream < streams_; ++stream) {
      host_rows_.push_back({static_cast<int32_t>(stream), static_cast<int32_t>(position_), 1});
      for (int64_t q = 0; q < kCodebooks; ++q) {
        ids_.push_back(static_cast<int32_t>(frame[static_cast<size_t>(q)] + q * model_.config.audio_vocab_size));
      }
    }
    ++position_;
  }
  ops_.embed_sum(x_.slice_rows(0, static_cast<int64_t>(host_rows_.size())), model_.audio_embeddings, ids_, kCodebooks);
  pass(last);
}

// The host_rows_, whose inputs stand in x_, through the backbone.
void LmSession::pass(bool last) {
  ops_.set_rows(*rows_, host_rows_);
  run_backbone(*rows_, static_cast<int64_t>(host_rows_.size()), last);
}

void LmSession::run_backbone(const Rows& rows, int64_t count, bool last) {
  const int64_t first_of_last = count - streams_;  // each stream's last position is in the last rows
  LayerTap tap;
  if (last && taps_.backbone_layer) {
    tap = [&](int64_t layer, ConstView x) { taps_.backbone_layer(layer, x.slice_rows(first_of_last, streams_)); };
  }
  const View x = x_.slice_rows(0, count);
  model_.backbone.forward(ops_, x, rows, cache_, buffers_, tap);
  if (last) model_.backbone.normalize(ops_, hidden_, x.slice_rows(first_of_last, streams_));
}

void LmSession::begin_sampling(const SamplingRule& rule, const SamplingNoise& noise, int64_t first) {
  sampler_ = ops_.make_sampler(rule, noise);
  first_ = started_ = collected_ = first;
  const auto number = static_cast<int32_t>(first);
  ops_.upload(number_, std::span(&number, 1));
  host_rows_.clear();
  for (int64_t stream = 0; stream < streams_; ++stream) {
    host_rows_.push_back({static_cast<int32_t>(stream), static_cast<int32_t>(position_), 1});
  }
  ops_.set_rows(*frame_rows_, host_rows_);
  sample_program_ = ops_.record([this] { sample_frame(); });
  feed_program_ = ops_.record([this] { feed_codes(); });
}

// A frame that was started is taken by the backbone before the next one.
void LmSession::start_frames(int64_t end) {
  const int64_t most = ops_.works_ahead() ? kMostStarted : 1;
  for (; started_ < std::min(collected_ + most, end); ++started_) {
    if (started_ > first_) {
      ops_.start(*feed_program_);
      ++position_;
    }
    ops_.start(*sample_program_);
  }
}

Frame LmSession::next_frame(int64_t end) {
  start_frames(end);
  Frame frame;
  ops_.collect(frame, mailbox_, static_cast<int32_t>(collected_));
  for (size_t q = 0; q < frame.size(); ++q) {
    if (frame[q] < 0) throw logits_not_numbers(collected_, static_cast<int64_t>(q));
  }
  ++collected_;
  return frame;
}

// From hidden_ to codes_.
void LmSession::sample_frame() {
  ops_.linear(logits_, hidden_, model_.first_head);  // [streams, V]
  ops_.sample(codes_.slice_cols(0, 1), logits_, number_, *sampler_, 0);
  for (int64_t q = 1; q < kCodebooks; ++q) {
    ops_.embed_codes(depth_input(q), model_.audio_embeddings, codes_.slice_cols(q - 1, 1),
                     (q - 1) * model_.config.audio_vocab_size, 0);
    depth_logits(q);
    ops_.sample(codes_.slice_cols(q, 1), logits_, number_, *sampler_, static_cast<uint32_t>(q));
  }
  ops_.post(mailbox_, codes_.slice_rows(0, 1), number_);
  ops_.increment(number_);
}

// codes_ through the backbone, to hidden_.
void LmSession::feed_codes() {
  ops_.embed_codes(x_.slice_rows(0, streams_), model_.audio_embeddings, codes_, 0, model_.config.audio_vocab_size);
  run_backbone(*frame_rows_, streams_, true);
  ops_.advance(*frame_rows_);
}

std::span<const float> LmSession::downloaded_logits() {
  ops_.download(host_logits_, logits_);
  return host_logits_;
}

std::span<const float> LmSession::first_logits() {
  ops_.linear(logits_, hidden_, model_.first_head);  // [streams, V]
  return downloaded_logits();
}

// Where the code before `codebook` goes, [streams, D]; the hidden state stands before the first one.
View LmSession::depth_input(int64_t codebook) {
  if (codebook > 1) return depth_in_.slice_rows(0, streams_);
  ops_.copy(depth_in_.slice_rows(0, streams_), hidden_);
  return depth_in_.slice_rows(streams_, streams_);
}

// depth_in_ to logits_ of `codebook`.
void LmSession::depth_logits(int64_t codebook) {
  const int64_t count = (codebook + 1 - first_depth_position(codebook)) * streams_;
  const View x = depth_x_.slice_rows(0, count);
  const auto index = static_cast<size_t>(codebook - 1);
  ops_.linear(x, depth_in_.slice_rows(0, count), model_.projection);  // [rows, Dd]
  model_.decoder.forward(ops_, x, *depth_rows_[index], depth_cache_, depth_buffers_);
  model_.decoder.normalize(ops_, depth_hidden_, x.slice_rows(count - streams_, streams_));
  ops_.linear(logits_, depth_hidden_, model_.heads[index]);  // [streams, V]
}

std::span<const float> LmSession::next_logits(int64_t codebook, int32_t previous_code) {
  const auto id = static_cast<int32_t>(previous_code + (codebook - 1) * model_.config.audio_vocab_size);
  ids_.assign(static_cast<size_t>(streams_), id);
  ops_.embed_sum(depth_input(codebook), model_.audio_embeddings, ids_, 1);
  depth_logits(codebook);
  return downloaded_logits();
}

}  // namespace heartmula
