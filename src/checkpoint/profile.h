// A trace of every operation, for Perfetto or chrome://tracing ("Trace Event Format", JSON).
#pragma once

#include <array>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "checkpoint/device_choice.h"
#include "ops/metered_ops.h"

namespace heartmula {

/// What a device can do at most, for the fraction of its limit that each operation reached.
struct DeviceLimits {
  double read_bytes_s = 0;
  double f32_flop_s = 0;
  double bf16_flop_s = 0;

  /// Of CPUs, with the threads that will compute; takes about half a second.
  static DeviceLimits measure(int threads, const std::string& cpus);
  /// Of a card: what it reads. Its arithmetic is not measured, and stays 0.
  static DeviceLimits measure_card(int index);
  static DeviceLimits measure(const Device& device, const MachineSettings& machine);
  /// The least time that these bytes from memory and this arithmetic take; 0 if arithmetic may decide and its peak is
  /// not known.
  double seconds(double stored_bytes, double flop, DType arithmetic) const;
};

/// Writes a span for each operation, with rows, n, k, bytes, FLOP and the fraction of its limit, and for each frame and
/// step of the codec. A track a model; thread-safe.
class Profile {
 public:
  using Clock = OpListener::Clock;
  enum class Track { kLanguageModel, kCodec };

  /// Throws Error(kUser) if `path` cannot be written.
  explicit Profile(const std::filesystem::path& path);
  /// Ends the file. A disk that became full cuts the trace short, never the song.
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// Before its first operation: what computes here, and how fast it can at most. `works_ahead`: spans are those of
  /// asking for operations, which says nothing of how long they take.
  void set_device(Track track, const std::string& device, const DeviceLimits& limits, bool works_ahead = false);
  OpListener& operations(Track track) { return listeners_[static_cast<size_t>(track)]; }
  /// A part of the work ("frame 12") from the end of the one before on this track until now.
  void part_done(Track track, const std::string& name);

 private:
  class Listener final : public OpListener {
   public:
    void finished(const OpRecord& record, Clock::time_point begin, Clock::time_point end) override {
      profile->operation(track, record, begin, end);
    }
    Profile* profile = nullptr;
    Track track = Track::kLanguageModel;
  };

  void write(const std::string& text);
  void operation(Track track, const OpRecord& record, Clock::time_point begin, Clock::time_point end);
  void span(std::string_view name, int thread, Clock::time_point begin, Clock::time_point end, const std::string& args);

  std::FILE* file_;
  std::array<DeviceLimits, 2> limits_;
  std::array<bool, 2> works_ahead_ = {};
  Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  std::array<Listener, 2> listeners_;
  std::array<Clock::time_point, 2> part_begin_ = {start_, start_};
};

}  // namespace heartmula
