#include <fmt/format.h>

#include <iterator>
#include <random>
#include <string_view>

#include "bench/stages.h"
#include "lm/session.h"
#include "sampling/sampler.h"

namespace heartmula::bench {

void WorkMeter::finished(const OpRecord& record, Clock::time_point begin, Clock::time_point end) {
  entries_.push_back({record, std::chrono::duration<double>(end - begin).count()});
}

std::vector<WorkMeter::Entry> WorkMeter::take() {
  std::vector<Entry> taken;
  taken.swap(entries_);
  entries_.reserve(taken.size());
  return taken;
}

Work work_of(const std::vector<WorkMeter::Entry>& entries) {
  Work work;
  for (const WorkMeter::Entry& entry : entries) work += {entry.record.stored_bytes, entry.record.flop, 1};
  return work;
}

void settle(Ops& ops, ConstView x) {
  std::vector<float> first(1);
  ops.download(first, x.slice_rows(0, 1).slice_cols(0, 1));
}

namespace {

constexpr int64_t kWarmUpFrames = 1;

// Songs side by side, each after as many positions.
class Songs {
 public:
  Songs(Ops& ops, const HeartMula& model, int64_t songs, int64_t context, int64_t positions)
      : batch_(ops, model, {.songs = songs, .streams = kRowsOfSong, .positions = positions, .piece = 1}) {
    for (int64_t song = 0; song < songs; ++song) {
      batch_.enter(song, kRowsOfSong, ops.make_sampler({}, noise_));
      batch_.jump_to(song, context);
      fed_.push_back({song, {}});
      all_.push_back(song);
    }
    batch_.open(fed_, {});
  }

  LmBatch& batch() { return batch_; }
  int64_t count() const { return std::ssize(all_); }
  void sample(int64_t codebook) {
    if (codebook == 0) {
      batch_.decoder().sample_first();
    } else {
      batch_.decoder().sample_next(codebook, all_);
    }
  }
  void feed() {
    const std::span<const Frame> frames = batch_.decoder().read_codes();
    for (FedFrame& fed : fed_) {
      fed.codes = frames[static_cast<size_t>(fed.song)];
      batch_.keep(fed.song, 1);
    }
    batch_.open(fed_, {});
  }

 private:
  PhiloxNoise noise_{1};
  LmBatch batch_;
  std::vector<FedFrame> fed_;
  std::vector<int64_t> all_;
};

// One frame of every song, and where its time goes.
class FrameTimer {
 public:
  FrameTimer(WorkMeter& meter, Songs& songs, const HeartMula& model) : meter_(meter), songs_(songs), model_(model) {}

  void frame(Stage& stage) {
    meter_.take();
    backbone_ = heads_ = depth_ = sampling_ = {};
    const Clock::time_point begin = Clock::now();
    for (int64_t codebook = 0; codebook < kCodebooks; ++codebook) {
      const Clock::time_point start = Clock::now();
      songs_.sample(codebook);
      account_depth(seconds_since(start));
    }
    const Clock::time_point start = Clock::now();
    songs_.feed();
    backbone_.seconds += seconds_since(start);
    backbone_.work += work_of(meter_.take());

    stage.seconds.values.push_back(seconds_since(begin));
    const Part* parts[] = {&backbone_, &heads_, &depth_, &sampling_};
    stage.work = {};
    for (size_t i = 0; i < stage.parts.size(); ++i) {
      stage.parts[i].seconds.values.push_back(parts[i]->seconds);
      stage.parts[i].work = parts[i]->work;
      stage.work += parts[i]->work;
    }
  }

 private:
  struct Part {
    double seconds = 0;
    Work work;
  };

  void account_depth(double seconds) {
    for (const WorkMeter::Entry& entry : meter_.take()) {
      const bool is_head = entry.record.n == model_.config.audio_vocab_size;
      const bool is_sample = std::string_view(entry.record.name) == "sample";
      Part& part = is_head ? heads_ : is_sample ? sampling_ : depth_;
      part.work += {entry.record.stored_bytes, entry.record.flop, 1};
      if (&part == &depth_) continue;
      part.seconds += entry.seconds;
      seconds -= entry.seconds;
    }
    depth_.seconds += seconds;
  }

  WorkMeter& meter_;
  Songs& songs_;
  const HeartMula& model_;
  Part backbone_;
  Part heads_;
  Part depth_;
  Part sampling_;
};

// Frames as songs are made, started ahead of the host: the time from one to the next.
void time_programs(WorkMeter& meter, Songs& songs, int64_t repeats, Stage& stage) {
  std::vector<Frame> made(static_cast<size_t>(songs.count()));
  meter.take();
  songs.batch().begin_run();
  stage.work = work_of(meter.take());
  stage.parts.clear();
  const int64_t frames = repeats + kWarmUpFrames;
  Clock::time_point begin = Clock::now();
  for (int64_t i = 0; i < frames; ++i) {
    songs.batch().next_frames(made, frames);
    if (i >= kWarmUpFrames) stage.seconds.values.push_back(seconds_since(begin));
    begin = Clock::now();
  }
}

}  // namespace

Stage measure_frame(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t songs, int64_t context,
                    int64_t repeats) {
  Stage stage = stage_of(songs == 1 ? "frame" : fmt::format("frame_{}_songs", songs), model.dtype,
                         fmt::format("{} rows, context {}", kRowsOfSong * songs, context));
  for (const char* part : {"backbone", "heads", "depth decoder", "sampling"}) {
    stage.parts.push_back(stage_of(part, model.dtype, ""));
  }
  Songs measured(ops, model, songs, context, frame_positions(context, repeats));
  if (ops.works_ahead()) {
    time_programs(meter, measured, repeats, stage);
    return stage;
  }
  FrameTimer timer(meter, measured, model);
  Stage warm_up = stage;
  timer.frame(warm_up);
  for (int64_t i = 0; i < repeats; ++i) timer.frame(stage);
  return stage;
}

Stage measure_prefill(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t positions, int64_t repeats) {
  Stage stage = stage_of("prefill", model.dtype, fmt::format("{} positions and one without text", positions));
  std::mt19937 generator(1);
  std::vector<int32_t> text(static_cast<size_t>(positions));
  for (int32_t& id : text) id = static_cast<int32_t>(generator() % static_cast<uint64_t>(model.config.text_vocab_size));
  for (int64_t i = 0; i < repeats; ++i) {
    LmSession session(ops, model, kRowsOfSong, positions + 1);
    meter.take();
    const Clock::time_point begin = Clock::now();
    session.prefill(text, positions / 2, {});
    settle(ops, session.hidden());
    stage.seconds.values.push_back(seconds_since(begin));
    stage.work = work_of(meter.take());
  }
  return stage;
}

}  // namespace heartmula::bench
