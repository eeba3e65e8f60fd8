#include "lm/frame_decoder.h"

#include <algorithm>
#include <iterator>

namespace heartmula {
namespace {

// Positions 0 and 1 of the depth decoder, the hidden state and code 0, go in one pass; then a code a pass.
int64_t first_position(int64_t codebook) {
  return codebook == 1 ? 0 : codebook;
}

}  // namespace

FrameDecoder::FrameDecoder(Ops& ops, const HeartMula& model, int64_t rows, bool with_drafts)
    : ops_(ops),
      model_(model),
      hidden_(ops.allocate(model.dtype, rows, model.config.backbone.embed_dim)),
      cache_(model.decoder.make_cache(ops, rows, kCodebooks)) {
  const int64_t rows_of_pass = rows * (with_drafts ? kCodebooks : 2);
  buffers_ = model.decoder.make_buffers(ops, rows_of_pass);
  in_ = ops.allocate(model.dtype, rows_of_pass, model.config.backbone.embed_dim);
  x_ = ops.allocate(DType::kF32, rows_of_pass, model.config.decoder.embed_dim);
  depth_hidden_ = ops.allocate(model.dtype, rows, model.config.decoder.embed_dim);
  logits_ = ops.allocate(DType::kF32, rows, model.config.audio_vocab_size);
  codes_ = ops.allocate(DType::kI32, rows, kCodebooks);
  drafts_ = ops.allocate(DType::kI32, rows, kCodebooks);
  numbers_ = ops.allocate(DType::kI32, rows, 1);
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) {
    all_rows_[static_cast<size_t>(codebook)] = ops.make_rows(2 * rows);
  }
  some_rows_ = ops.make_rows(rows_of_pass);

  const auto most = static_cast<size_t>(rows);
  open_.reserve(most);
  all_.reserve(most);
  for (std::vector<int64_t>& frames : drafted_) frames.reserve(most);
  host_rows_.reserve(static_cast<size_t>(rows_of_pass));
  ids_.reserve(most * kCodebooks);
  samples_.reserve(most);
  sampled_.reserve(most);
  host_logits_.resize(most * static_cast<size_t>(model.config.audio_vocab_size));
  host_codes_.reserve(most * kCodebooks);
  host_frames_.reserve(most);
}

void FrameDecoder::open(std::span<const OpenFrame> frames) {
  open_.assign(frames.begin(), frames.end());
  all_.clear();
  ids_.clear();
  sampled_.assign(open_.size(), {});
  for (const OpenFrame& frame : open_) {
    all_.push_back(std::ssize(all_));
    for (int64_t stream = 0; stream < frame.streams; ++stream) ids_.push_back(static_cast<int32_t>(frame.number));
  }
  rows_ = std::ssize(ids_);
  ops_.upload(numbers(), ids_);
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) {
    host_rows_.clear();
    for (int64_t position = first_position(codebook); position <= codebook; ++position) add_rows(all_, position);
    ops_.set_rows(*all_rows_[static_cast<size_t>(codebook)], host_rows_);
  }
}

// call(first row of the open frames, count, row among those of `frames`) for each run of frames that lie together.
template <typename Call>
void FrameDecoder::for_runs(std::span<const int64_t> frames, const Call& call) const {
  int64_t done = 0;
  for (size_t i = 0; i < frames.size();) {
    const int64_t first = open_[static_cast<size_t>(frames[i])].row;
    int64_t end = first;
    for (; i < frames.size() && open_[static_cast<size_t>(frames[i])].row == end; ++i) {
      end += open_[static_cast<size_t>(frames[i])].streams;
    }
    call(first, end - first, done);
    done += end - first;
  }
}

int64_t FrameDecoder::rows_of(std::span<const int64_t> frames) const {
  int64_t rows = 0;
  for (const int64_t frame : frames) rows += open_[static_cast<size_t>(frame)].streams;
  return rows;
}

void FrameDecoder::copy_hidden(View out, std::span<const int64_t> frames) {
  for_runs(frames, [&](int64_t row, int64_t count, int64_t to) {
    ops_.copy(out.slice_rows(to, count), hidden_.slice_rows(row, count));
  });
}

// The embeddings of `codes` [rows, 1] of `codebook`, of which each of the frames' rows has one.
void FrameDecoder::embed(View out, std::span<const int64_t> frames, ConstView codes, int64_t codebook) {
  for_runs(frames, [&](int64_t row, int64_t count, int64_t to) {
    ops_.embed_codes(out.slice_rows(to, count), model_.audio_embeddings, codes.slice_rows(row, count),
                     codebook * model_.config.audio_vocab_size, 0);
  });
}

// The rows of these frames at a position, behind host_rows_.
void FrameDecoder::add_rows(std::span<const int64_t> frames, int64_t position) {
  for_runs(frames, [&](int64_t row, int64_t count, int64_t) {
    for (int64_t i = row; i < row + count; ++i) {
      host_rows_.push_back({static_cast<int32_t>(i), static_cast<int32_t>(position), 1});
    }
  });
}

// One position of the frames through the depth decoder (two for codebook 1), to logits_.
void FrameDecoder::pass(int64_t codebook, std::span<const int64_t> frames) {
  const int64_t rows = rows_of(frames);
  const int64_t count = (codebook + 1 - first_position(codebook)) * rows;
  if (codebook == 1) copy_hidden(in_.slice_rows(0, rows), frames);
  embed(in_.slice_rows(count - rows, rows), frames, codes_.slice_cols(codebook - 1, 1), codebook - 1);
  Rows* placed = all_rows_[static_cast<size_t>(codebook)].get();
  if (rows < rows_) {
    host_rows_.clear();
    for (int64_t position = first_position(codebook); position <= codebook; ++position) add_rows(frames, position);
    placed = some_rows_.get();
    ops_.set_rows(*placed, host_rows_);
  }
  const View x = x_.slice_rows(0, count);
  ops_.linear(x, in_.slice_rows(0, count), model_.projection);  // [count, Dd]
  model_.decoder.forward(ops_, x, *placed, cache_, buffers_);
  head(codebook, x.slice_rows(count - rows, rows));
}

// depth [rows, Dd], before the final norm, to logits_ [rows, V].
void FrameDecoder::head(int64_t codebook, ConstView depth) {
  const View normed = depth_hidden_.slice_rows(0, depth.rows);
  model_.decoder.normalize(ops_, normed, depth);
  ops_.linear(logits_.slice_rows(0, depth.rows), normed, model_.heads[static_cast<size_t>(codebook - 1)]);
}

// Rows of logits_ are those of `pass_frames`, of which `frames` are some.
void FrameDecoder::sample(int64_t codebook, std::span<const int64_t> frames, std::span<const int64_t> pass_frames) {
  samples_.clear();
  int64_t logits_row = 0;
  auto next = frames.begin();
  for (const int64_t index : pass_frames) {
    const OpenFrame& frame = open_[static_cast<size_t>(index)];
    if (next != frames.end() && *next == index) {
      sampled_[static_cast<size_t>(index)] = logits_.slice_rows(logits_row, frame.streams);
      samples_.push_back({frame.sampler, logits_.slice_rows(logits_row, frame.streams),
                          numbers_.slice_rows(frame.row, 1),
                          codes_.slice_rows(frame.row, frame.streams).slice_cols(codebook, 1)});
      ++next;
    }
    logits_row += frame.streams;
  }
  ops_.sample(samples_, static_cast<uint32_t>(codebook));
}

void FrameDecoder::sample_all() {
  sample_first();
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) sample_next(codebook, all_);
}

void FrameDecoder::sample_first() {
  ops_.linear(logits_.slice_rows(0, rows_), hidden_.slice_rows(0, rows_), model_.first_head);  // [rows, V]
  sample(0, all_, all_);
}

void FrameDecoder::sample_next(int64_t codebook, std::span<const int64_t> frames) {
  pass(codebook, frames);
  sample(codebook, frames, frames);
}

// Position by position: x_ keeps the outputs of all for sample_drafted.
void FrameDecoder::read_drafts(std::span<const int64_t> frames, std::span<const Frame> drafts,
                               std::span<const int64_t> known) {
  for (size_t i = 0; i < frames.size(); ++i) {
    const OpenFrame& frame = open_[static_cast<size_t>(frames[i])];
    ids_.clear();
    for (int64_t stream = 0; stream < frame.streams; ++stream) {
      ids_.insert(ids_.end(), drafts[i].begin(), drafts[i].end());
    }
    ops_.upload(drafts_.slice_rows(frame.row, frame.streams), ids_);
  }
  host_rows_.clear();
  for (int64_t position = 0; position < kCodebooks; ++position) {
    std::vector<int64_t>& read = drafted_[static_cast<size_t>(position)];
    read.clear();
    for (size_t i = 0; i < frames.size(); ++i) {
      if (first_position(known[i]) <= position) read.push_back(frames[i]);
    }
    const auto first = std::ssize(host_rows_);
    drafted_rows_[static_cast<size_t>(position)] = first;
    add_rows(read, position);
    const View in = in_.slice_rows(first, std::ssize(host_rows_) - first);
    if (position == 0) {
      copy_hidden(in, read);
    } else {
      embed(in, read, drafts_.slice_cols(position - 1, 1), position - 1);
    }
  }
  const auto count = std::ssize(host_rows_);
  drafted_rows_[kCodebooks] = count;
  ops_.set_rows(*some_rows_, host_rows_);
  const View x = x_.slice_rows(0, count);
  ops_.linear(x, in_.slice_rows(0, count), model_.projection);  // [count, Dd]
  model_.decoder.forward(ops_, x, *some_rows_, cache_, buffers_);
}

void FrameDecoder::drafted_head(int64_t codebook) {
  const auto position = static_cast<size_t>(codebook);
  const int64_t first = drafted_rows_[position];
  head(codebook, x_.slice_rows(first, drafted_rows_[position + 1] - first));
}

void FrameDecoder::sample_drafted(int64_t codebook, std::span<const int64_t> frames) {
  drafted_head(codebook);
  sample(codebook, frames, drafted_[static_cast<size_t>(codebook)]);
}

ConstView FrameDecoder::sampled_logits(int64_t frame) {
  const ConstView logits = sampled_[static_cast<size_t>(frame)];
  const auto host = std::span(host_logits_).first(static_cast<size_t>(logits.rows * logits.cols));
  ops_.download(host, logits);
  return {host.data(), DType::kF32, logits.rows, logits.cols, logits.cols};
}

void FrameDecoder::replace(int64_t frame, int64_t codebook, int32_t code) {
  const OpenFrame& open = open_[static_cast<size_t>(frame)];
  ids_.assign(static_cast<size_t>(open.streams), code);
  ops_.upload(codes_.slice_rows(open.row, open.streams).slice_cols(codebook, 1), ids_);
}

std::span<const Frame> FrameDecoder::read_codes() {
  host_codes_.resize(static_cast<size_t>(rows_ * kCodebooks));
  ops_.download(host_codes_, codes());
  host_frames_.clear();
  for (const OpenFrame& frame : open_) {
    std::copy_n(host_codes_.begin() + frame.row * kCodebooks, kCodebooks, host_frames_.emplace_back().begin());
  }
  return host_frames_;
}

std::span<const float> FrameDecoder::downloaded_logits() {
  const auto logits = std::span(host_logits_).first(static_cast<size_t>(rows_ * model_.config.audio_vocab_size));
  ops_.download(logits, logits_.slice_rows(0, rows_));
  return logits;
}

std::span<const float> FrameDecoder::first_logits() {
  ops_.linear(logits_.slice_rows(0, rows_), hidden_.slice_rows(0, rows_), model_.first_head);  // [rows, V]
  return downloaded_logits();
}

std::span<const float> FrameDecoder::next_logits(int64_t codebook, int32_t code) {
  ids_.assign(static_cast<size_t>(rows_), code);
  ops_.upload(codes().slice_cols(codebook - 1, 1), ids_);
  pass(codebook, all_);
  return downloaded_logits();
}

std::span<const float> FrameDecoder::drafted_logits(int64_t codebook) {
  drafted_head(codebook);
  return downloaded_logits();
}

}  // namespace heartmula
