#include "lm/batch.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace heartmula {
namespace {

// Frames of a song under way at most, where the device works ahead.
constexpr int64_t kMostStarted = 3;

// Of a pass: a piece of a prompt and the row that stands for the other one, or the frames of all songs.
int64_t most_rows(const LmBatchSize& size) {
  return std::max(size.piece + 1, size.rows());
}

}  // namespace

LmBatch::LmBatch(Ops& ops, const HeartMula& model, const LmBatchSize& size)
    : ops_(ops),
      model_(model),
      size_(size),
      places_(static_cast<size_t>(size.songs)),
      pages_(ops, size.songs * size.streams, pages_of(size.positions), size.room()),
      cache_(model.backbone.make_cache(ops, size.songs * size.streams, size.positions, pages_.table(), size.room())),
      buffers_(model.backbone.make_buffers(ops, most_rows(size))),
      x_(ops.allocate(DType::kF32, most_rows(size), model.config.backbone.embed_dim)),
      fresh_(ops.allocate(model.dtype, size.songs * size.streams, model.config.backbone.embed_dim)),
      muq_embed_(ops.allocate(model.dtype, 1, model.config.muq_dim)),
      decoder_(ops, model, size.rows(), size.frames > 1),
      pass_rows_(ops.make_rows(most_rows(size))),
      frame_rows_(ops.make_rows(size.songs * size.streams)),
      step_(ops.allocate(DType::kI32, 1, 1)),
      mailbox_(ops.make_mailbox(kMostStarted, size.songs * size.streams * kCodebooks)) {
  host_rows_.reserve(static_cast<size_t>(most_rows(size)));
  ids_.reserve(static_cast<size_t>(most_rows(size) * kCodebooks));
  open_.reserve(static_cast<size_t>(size.songs * size.frames));
  posted_.reserve(static_cast<size_t>(size.songs * size.streams * kCodebooks));
}

void LmBatch::enter(int64_t song, int64_t streams, std::unique_ptr<CodeSampler> sampler) {
  restart(song);
  place(song) = {.streams = streams, .sampler = std::move(sampler)};
}

void LmBatch::restart(int64_t song) {
  pages_.release(song * size_.streams, size_.streams);
  Place& at = place(song);
  at.read = at.prompt = at.frames = at.first = at.resting = 0;
}

bool LmBatch::make_room(int64_t song, int64_t positions) {
  return pages_.extend(song * size_.streams, place(song).streams, pages_of(std::min(positions, size_.positions)));
}

int64_t LmBatch::missing_pages(int64_t song, int64_t positions) const {
  const Place& at = places_[static_cast<size_t>(song)];
  const int64_t needed = std::max(at.resting, pages_of(std::min(positions, size_.positions)));
  return at.streams * std::max<int64_t>(0, needed - std::ssize(pages_.of(song * size_.streams)));
}

void LmBatch::take_room(int64_t song, int64_t positions) {
  if (!make_room(song, positions)) throw failure("the keys and values of {} positions have no room", positions);
}

int64_t LmBatch::positions(int64_t song) const {
  const Place& at = places_[static_cast<size_t>(song)];
  return at.prompt + at.frames;
}

// Of every page that the song has, stream by stream.
void LmBatch::for_each_block(int64_t song, const std::function<void(KvCache& layer, int32_t page)>& body) {
  for (int64_t stream = 0; stream < place(song).streams; ++stream) {
    for (const int32_t page : pages_.of(song * size_.streams + stream)) {
      for (const auto& layer : cache_.layers) body(*layer, page);
    }
  }
}

void LmBatch::page_out(int64_t song, const std::function<void(std::span<const std::byte>)>& write) {
  for_each_block(song, [&](KvCache& layer, int32_t page) {
    block_.resize(static_cast<size_t>(ops_.kv_block_bytes(layer)));
    ops_.download_kv(block_, layer, page);
    write(block_);
  });
  place(song).resting = std::ssize(pages_.of(song * size_.streams));
  pages_.release(song * size_.streams, size_.streams);
}

bool LmBatch::page_in(int64_t song, const std::function<void(std::span<std::byte>)>& read) {
  if (!pages_.extend(song * size_.streams, place(song).streams, place(song).resting)) return false;
  place(song).resting = 0;
  for_each_block(song, [&](KvCache& layer, int32_t page) {
    block_.resize(static_cast<size_t>(ops_.kv_block_bytes(layer)));
    read(block_);
    ops_.upload_kv(layer, page, block_);
  });
  return true;
}

void LmBatch::jump_to(int64_t song, int64_t position) {
  place(song).prompt = position + 1;  // the frame that is fed next stands at its last position
  take_room(song, position + 1);
}

void LmBatch::add_row(int64_t song, int64_t stream, int64_t position, int64_t repeat) {
  host_rows_.push_back({static_cast<int32_t>(song * size_.streams + stream), static_cast<int32_t>(position),
                        static_cast<int32_t>(repeat)});
}

bool LmBatch::prefill(int64_t song, const SongBeginning& beginning, int64_t most) {
  const auto prompt = std::ssize(beginning.text_ids);
  place(song).prompt = prompt;
  place(song).first = beginning.first_frame;
  take_room(song, prompt + std::ssize(beginning.frames));
  if (place(song).read < prompt) return read_text(song, beginning, most) && beginning.frames.empty();
  return read_frames(song, beginning.frames, most);
}

// The prompt's unconditional inputs are all equal, so its hidden states are too, in every layer: one row stands for
// them all, with its key rotated to each position (lm.md B6). It goes with the last piece.
bool LmBatch::read_text(int64_t song, const SongBeginning& beginning, int64_t most) {
  const auto prompt = std::ssize(beginning.text_ids);
  const int64_t first = place(song).read;
  const int64_t count = std::min(most, prompt - first);
  const bool last = first + count == prompt;
  host_rows_.clear();
  for (int64_t i = 0; i < count; ++i) add_row(song, 0, first + i);
  ops_.embed_sum(x_.slice_rows(0, count), model_.text_embeddings,
                 beginning.text_ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), 1);
  if (beginning.reference_index >= first && beginning.reference_index < first + count) {
    write_reference(x_.slice_rows(beginning.reference_index - first, 1), beginning.muq_embed);
  }
  if (last && place(song).streams > 1) {
    add_row(song, 1, 0, prompt);
    const int32_t only = 0;
    ops_.embed_sum(x_.slice_rows(count, 1), model_.unconditional_embedding, {&only, 1}, 1);
  }
  place(song).read += count;
  read_rows(song, last);
  return last;
}

// Frames to go on from, in every stream.
bool LmBatch::read_frames(int64_t song, std::span<const Frame> frames, int64_t most) {
  const int64_t done = place(song).frames;
  const int64_t count = std::min(std::max<int64_t>(1, most / place(song).streams), std::ssize(frames) - done);
  host_rows_.clear();
  ids_.clear();
  for (int64_t i = done; i < done + count; ++i) add_frame(song, place(song).prompt + i, frames[static_cast<size_t>(i)]);
  embed_frames();
  place(song).frames += count;
  const bool last = done + count == std::ssize(frames);
  read_rows(song, last);
  return last;
}

// x [1, D]: what stands in the conditional row where the prompt has its style; the other row has none.
void LmBatch::write_reference(View x, std::span<const float> muq_embed) {
  if (muq_embed.empty()) {
    ops_.copy(x, model_.muq_bias);
    return;
  }
  if (std::ssize(muq_embed) != model_.config.muq_dim) {
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

void LmBatch::add_frame(int64_t song, int64_t position, const Frame& frame) {
  for (int64_t stream = 0; stream < place(song).streams; ++stream) {
    add_row(song, stream, position);
    for (int64_t q = 0; q < kCodebooks; ++q) {
      ids_.push_back(static_cast<int32_t>(frame[static_cast<size_t>(q)] + q * model_.config.audio_vocab_size));
    }
  }
}

void LmBatch::embed_frames() {
  ops_.embed_sum(x_.slice_rows(0, std::ssize(host_rows_)), model_.audio_embeddings, ids_, kCodebooks);
}

void LmBatch::run_backbone(const Rows& rows, int64_t count, int64_t layers, const LayerTap& tap) {
  model_.backbone.forward(ops_, x_.slice_rows(0, count), rows, cache_, buffers_, layers, tap);
}

// The host_rows_ of a song's beginning, whose inputs stand in x_; of its last ones the hidden states are kept.
void LmBatch::read_rows(int64_t song, bool last) {
  ops_.set_rows(*pass_rows_, host_rows_);
  const int64_t streams = place(song).streams;
  const int64_t first_of_last = std::ssize(host_rows_) - streams;
  LayerTap tap;
  if (last && taps_.backbone_layer) {
    tap = [&](int64_t layer, ConstView x) { taps_.backbone_layer(layer, x.slice_rows(first_of_last, streams)); };
  }
  run_backbone(*pass_rows_, std::ssize(host_rows_), 0, tap);
  if (last) model_.backbone.normalize(ops_, fresh_hidden(song), x_.slice_rows(first_of_last, streams));
}

void LmBatch::open(std::span<const FedFrame> fed, std::span<const int64_t> fresh, int64_t layers) {
  open_.clear();
  host_rows_.clear();
  ids_.clear();
  int64_t behind = 0;  // frames of this song that are fed before
  const auto open_frame = [&](int64_t song, int64_t row) {
    const Place& at = place(song);
    open_.push_back({song, at.first + at.frames + behind, row, at.streams, at.sampler.get()});
  };
  for (size_t i = 0; i < fed.size(); ++i) {
    const int64_t song = fed[i].song;
    behind = i > 0 && fed[i - 1].song == song ? behind + 1 : 0;
    open_frame(song, std::ssize(host_rows_));
    take_room(song, positions(song) + behind);
    add_frame(song, positions(song) - 1 + behind, fed[i].codes);
  }
  int64_t rows = std::ssize(host_rows_);
  if (rows > 0) {
    embed_frames();
    ops_.set_rows(*pass_rows_, host_rows_);
    run_backbone(*pass_rows_, rows, layers, taps_.backbone_layer);
    model_.backbone.normalize(ops_, decoder_.hidden().slice_rows(0, rows), x_.slice_rows(0, rows));
  }
  behind = 0;
  for (const int64_t song : fresh) {
    open_frame(song, rows);
    ops_.copy(decoder_.hidden().slice_rows(rows, place(song).streams), fresh_hidden(song));
    rows += place(song).streams;
  }
  decoder_.open(open_);
}

void LmBatch::begin_run() {
  host_rows_.clear();
  for (const OpenFrame& frame : decoder_.open_frames()) {
    for (int64_t stream = 0; stream < frame.streams; ++stream) {
      add_row(frame.song, stream, positions(frame.song));
    }
  }
  ops_.set_rows(*frame_rows_, host_rows_);
  started_ = collected_ = 0;
  const int32_t first = 0;
  ops_.upload(step_, std::span(&first, 1));
  posted_.resize(static_cast<size_t>(decoder_.rows() * kCodebooks));
  sample_program_ = ops_.record([this] {
    decoder_.sample_all();
    ops_.post(mailbox_, decoder_.codes(), step_);
    ops_.increment(step_);
    ops_.increment(decoder_.numbers());
  });
  feed_program_ = ops_.record([this] { feed_codes(); });
}

// A frame that was started is taken by the backbone before the next one.
void LmBatch::next_frames(std::span<Frame> frames, int64_t end) {
  const int64_t most = ops_.works_ahead() ? kMostStarted : 1;
  for (; started_ < std::min(collected_ + most, end); ++started_) {
    if (started_ > 0) {
      for (const OpenFrame& frame : decoder_.open_frames()) {
        const Place& at = place(frame.song);
        take_room(frame.song, at.prompt + frame.number - at.first + started_);
      }
      ops_.start(*feed_program_);
    }
    ops_.start(*sample_program_);
  }
  ops_.collect(posted_, mailbox_, static_cast<int32_t>(collected_));
  ++collected_;
  for (size_t i = 0; i < frames.size(); ++i) {
    const OpenFrame& frame = decoder_.open_frames()[i];
    std::copy_n(posted_.begin() + frame.row * kCodebooks, kCodebooks, frames[i].begin());
  }
}

// The codes that were sampled through the backbone, to the next hidden states.
void LmBatch::feed_codes() {
  const int64_t rows = decoder_.rows();
  const View x = x_.slice_rows(0, rows);
  ops_.embed_codes(x, model_.audio_embeddings, decoder_.codes(), 0, model_.config.audio_vocab_size);
  run_backbone(*frame_rows_, rows);
  model_.backbone.normalize(ops_, decoder_.hidden().slice_rows(0, rows), x);
  ops_.advance(*frame_rows_);
}

}  // namespace heartmula
