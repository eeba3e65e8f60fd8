// The stages of a song, measured one by one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/measurement.h"
#include "codec/heartcodec.h"
#include "lm/heartmula.h"
#include "ops/metered_ops.h"

namespace heartmula::bench {

constexpr int64_t kRowsOfSong = 2;  // guidance

/// Collects what the operations of one device did.
class WorkMeter final : public OpListener {
 public:
  struct Entry {
    OpRecord record;
    double seconds = 0;
  };

  void finished(const OpRecord& record, Clock::time_point begin, Clock::time_point end) override;
  /// Everything since the last call.
  std::vector<Entry> take();

 private:
  std::vector<Entry> entries_;
};

Work work_of(const std::vector<WorkMeter::Entry>& entries);

/// Called before each sample; an Error(kCancelled) thrown by it ends the run.
using Note = std::function<void(const std::string& text)>;

/// Waits until `x` and all that was started before it is done.
void settle(Ops& ops, ConstView x);

/// That measure_frame uses: those before, a frame to begin with, one that warms up, and the repeats.
inline int64_t frame_positions(int64_t context, int64_t repeats) {
  return context + repeats + 2;
}

/// One frame: `songs` at once with two rows (guidance) each, `context` positions in the cache. Parts: backbone, heads,
/// depth decoder, sampling.
Stage measure_frame(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t songs, int64_t context,
                    int64_t repeats);
/// A prompt of `positions` with guidance: one unconditional position more.
Stage measure_prefill(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t positions, int64_t repeats);
/// One Euler step of a whole window with guidance.
Stage measure_flow_step(Ops& ops, WorkMeter& meter, const HeartCodec& codec, int64_t repeats);
/// One second of stereo music through the wave decoder, measured on a part of a window, or on a window where the device
/// has many rows at a time.
Stage measure_wave_decoder(Ops& ops, WorkMeter& meter, const HeartCodec& codec, int64_t repeats);

}  // namespace heartmula::bench
