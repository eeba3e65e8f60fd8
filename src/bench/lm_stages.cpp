#include <fmt/format.h>

#include <random>

#include "bench/stages.h"
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

constexpr int64_t kRowsOfSong = 2;  // guidance
constexpr int64_t kWarmUpFrames = 1;

// One frame of every song, and where its time goes.
class FrameTimer {
 public:
  FrameTimer(WorkMeter& meter, LmSession& session, const HeartMula& model, int64_t songs)
      : meter_(meter), session_(session), model_(model), sampler_({}, noise_), songs_(songs) {}

  void frame(uint32_t index, Stage& stage) {
    meter_.take();
    backbone_ = heads_ = depth_ = sampling_ = {};
    const Clock::time_point begin = Clock::now();
    Frame frame;
    for (uint32_t q = 0; q < frame.size(); ++q) {
      const Clock::time_point start = Clock::now();
      const std::span<const float> logits = q == 0 ? session_.first_logits() : session_.next_logits(q, frame[q - 1]);
      account_depth(seconds_since(start));
      frame[q] = sample(logits, index, q);
    }
    const Clock::time_point start = Clock::now();
    session_.feed(frame);
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
      Part& part = is_head ? heads_ : depth_;
      part.work += {entry.record.stored_bytes, entry.record.flop, 1};
      if (is_head) {
        part.seconds += entry.seconds;
        seconds -= entry.seconds;
      }
    }
    depth_.seconds += seconds;
  }

  int32_t sample(std::span<const float> logits, uint32_t frame, uint32_t codebook) {
    const Clock::time_point start = Clock::now();
    const size_t of_song = logits.size() / static_cast<size_t>(songs_);
    int32_t code = 0;
    for (int64_t song = songs_ - 1; song >= 0; --song) {
      code = sampler_.sample(logits.subspan(static_cast<size_t>(song) * of_song, of_song), frame, codebook);
    }
    sampling_.seconds += seconds_since(start);
    return code;
  }

  WorkMeter& meter_;
  LmSession& session_;
  const HeartMula& model_;
  PhiloxNoise noise_{1};
  Sampler sampler_;
  int64_t songs_;
  Part backbone_;
  Part heads_;
  Part depth_;
  Part sampling_;
};

}  // namespace

// Frames as songs are made, started ahead of the host: the time from one to the next.
void time_programs(WorkMeter& meter, LmSession& session, int64_t repeats, Stage& stage) {
  const PhiloxNoise noise(1);
  meter.take();
  session.begin_sampling({}, noise, 0);
  stage.work = work_of(meter.take());
  stage.parts.clear();
  const int64_t frames = repeats + kWarmUpFrames;
  Clock::time_point begin = Clock::now();
  for (int64_t i = 0; i < frames; ++i) {
    session.next_frame(frames);
    if (i >= kWarmUpFrames) stage.seconds.values.push_back(seconds_since(begin));
    begin = Clock::now();
  }
}

Stage measure_frame(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t songs, int64_t context,
                    int64_t repeats) {
  Stage stage = stage_of(songs == 1 ? "frame" : fmt::format("frame_{}_songs", songs), model.dtype,
                         fmt::format("{} rows, context {}", kRowsOfSong * songs, context));
  for (const char* part : {"backbone", "heads", "depth decoder", "sampling"}) {
    stage.parts.push_back(stage_of(part, model.dtype, ""));
  }
  LmSession session(ops, model, kRowsOfSong * songs, frame_positions(context, repeats), 1);
  session.jump_to(context);
  session.feed({});
  if (ops.works_ahead()) {
    time_programs(meter, session, repeats, stage);
    return stage;
  }
  FrameTimer timer(meter, session, model, songs);
  Stage warm_up = stage;
  timer.frame(0, warm_up);
  for (int64_t i = 0; i < repeats; ++i) timer.frame(static_cast<uint32_t>(i + 1), stage);
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
