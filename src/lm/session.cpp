#include <algorithm>

#include "base/error.h"
#include "lm/heartmula.h"

namespace heartmula {
namespace {

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
  rows_.reserve(static_cast<size_t>(most_rows(piece, streams)));
  ids_.reserve(static_cast<size_t>(most_rows(piece, streams) * kCodebooks));
}

// The prompt's unconditional inputs are all equal, so its hidden states are too, in every layer: one row stands for
// them all, with its key rotated to each position (lm.md B6). It goes with the last piece.
void LmSession::prefill(std::span<const int32_t> text_ids, int64_t reference_index, std::span<const Frame> frames,
                        std::span<const float> muq_embed) {
  const auto prompt = static_cast<int64_t>(text_ids.size());
  for (int64_t first = 0; first < prompt; first += piece_) {
    const int64_t count = std::min(piece_, prompt - first);
    const bool last = first + count == prompt;
    rows_.clear();
    for (int64_t i = 0; i < count; ++i) rows_.push_back({0, static_cast<int32_t>(first + i), 1});
    ops_.embed_sum(x_.slice_rows(0, count), model_.text_embeddings,
                   text_ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), 1);
    if (reference_index >= first && reference_index < first + count) {
      write_reference(x_.slice_rows(reference_index - first, 1), muq_embed);
    }
    if (last && streams_ > 1) {
      rows_.push_back({1, 0, static_cast<int32_t>(prompt)});
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
  rows_.clear();
  ids_.clear();
  for (const Frame& frame : frames) {
    for (int64_t stream = 0; stream < streams_; ++stream) {
      rows_.push_back({static_cast<int32_t>(stream), static_cast<int32_t>(position_), 1});
      for (int64_t q = 0; q < kCodebooks; ++q) {
        ids_.push_back(static_cast<int32_t>(frame[static_cast<size_t>(q)] + q * model_.config.audio_vocab_size));
      }
    }
    ++position_;
  }
  ops_.embed_sum(x_.slice_rows(0, static_cast<int64_t>(rows_.size())), model_.audio_embeddings, ids_, kCodebooks);
  pass(last);
}

// The rows_, whose inputs stand in x_, through the backbone.
void LmSession::pass(bool last) {
  const auto count = static_cast<int64_t>(rows_.size());
  const int64_t first_of_last = count - streams_;  // each stream's last position is in the last rows
  LayerTap tap;
  if (last && taps_.backbone_layer) {
    tap = [&](int64_t layer, ConstView x) { taps_.backbone_layer(layer, x.slice_rows(first_of_last, streams_)); };
  }
  const View x = x_.slice_rows(0, count);
  model_.backbone.forward(ops_, x, rows_, cache_, buffers_, tap);
  if (last) model_.backbone.normalize(ops_, hidden_, x.slice_rows(first_of_last, streams_));
}

std::span<const float> LmSession::logits(const Matrix& head, ConstView hidden) {
  ops_.linear(logits_, hidden, head);  // [streams, V]
  ops_.download(host_logits_, logits_);
  return host_logits_;
}

std::span<const float> LmSession::first_logits() {
  return logits(model_.first_head, hidden_);
}

// Positions 0 and 1 of the depth decoder, the hidden state and code 0, go in one pass; then a code a pass.
std::span<const float> LmSession::next_logits(int64_t codebook, int32_t previous_code) {
  const int64_t positions = codebook == 1 ? 2 : 1;
  const int64_t count = positions * streams_;
  const View in = depth_in_.slice_rows(0, count);
  const View x = depth_x_.slice_rows(0, count);
  const auto id = static_cast<int32_t>(previous_code + (codebook - 1) * model_.config.audio_vocab_size);
  ids_.assign(static_cast<size_t>(streams_), id);
  rows_.clear();
  for (int64_t position = codebook + 1 - positions; position <= codebook; ++position) {
    for (int64_t stream = 0; stream < streams_; ++stream) {
      rows_.push_back({static_cast<int32_t>(stream), static_cast<int32_t>(position), 1});
    }
  }
  if (codebook == 1) ops_.copy(in.slice_rows(0, streams_), hidden_);
  ops_.embed_sum(in.slice_rows(count - streams_, streams_), model_.audio_embeddings, ids_, 1);
  ops_.linear(x, in, model_.projection);  // [rows, Dd]
  model_.decoder.forward(ops_, x, rows_, depth_cache_, depth_buffers_);
  model_.decoder.normalize(ops_, depth_hidden_, x.slice_rows(count - streams_, streams_));
  return logits(model_.heads[static_cast<size_t>(codebook - 1)], depth_hidden_);
}

}  // namespace heartmula
