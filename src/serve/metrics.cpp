#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <atomic>

#include "base/cpu_info.h"

namespace heartmula {
namespace {

// Without labels.
prometheus::Counter& counter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}
prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests = prometheus::BuildCounter()
                                                          .Name("heartmula_http_requests_total")
                                                          .Help("HTTP requests answered")
                                                          .Register(registry);
  prometheus::Family<prometheus::Counter>& songs =
      prometheus::BuildCounter().Name("heartmula_songs_total").Help("Songs that ended here").Register(registry);
  prometheus::Counter& frames = counter(registry, "heartmula_frames_total", "Frames made, of 80 ms each");
  prometheus::Counter& audio = counter(registry, "heartmula_audio_seconds_total", "Seconds of audio of finished songs");
  prometheus::Gauge& in_batch = gauge(registry, "heartmula_songs_in_batch", "Songs that are being made now");
  prometheus::Family<prometheus::Gauge>& pages =
      prometheus::BuildGauge().Name("heartmula_kv_pages").Help("Pages of keys and values").Register(registry);
  prometheus::Gauge& used_pages = pages.Add({{"state", "used"}});
  prometheus::Gauge& free_pages = pages.Add({{"state", "free"}});
  prometheus::Gauge& resting = gauge(registry, "heartmula_songs_resting", "Songs in the batch that wait for pages");
  prometheus::Gauge& rests =
      gauge(registry, "heartmula_song_rests", "How often songs had to rest, in this run of the batch");
  prometheus::Gauge& swapped =
      gauge(registry, "heartmula_kv_swapped_bytes", "Keys and values that went to the disk, in this run of the batch");
  prometheus::Family<prometheus::Gauge>& jobs =
      prometheus::BuildGauge().Name("heartmula_jobs").Help("Songs in the database").Register(registry);
  prometheus::Gauge& memory =
      gauge(registry, "heartmula_resident_memory_bytes", "Memory of this process that is in use");
  prometheus::Histogram& real_time_factor =
      prometheus::BuildHistogram()
          .Name("heartmula_real_time_factor")
          .Help("Seconds of work for a second of audio, of a song beside others")
          .Register(registry)
          .Add({}, prometheus::Histogram::BucketBoundaries{0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20});
  prometheus::Histogram& first_audio =
      prometheus::BuildHistogram()
          .Name("heartmula_first_audio_seconds")
          .Help("From the request to the first samples")
          .Register(registry)
          .Add({}, prometheus::Histogram::BucketBoundaries{0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600});
  std::atomic<int64_t> made{0};
  std::atomic<int64_t> made_ms{0};
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

void Metrics::count_request(const std::string& method, const std::string& route, int status) {
  state_->requests.Add({{"method", method}, {"route", route}, {"status", std::to_string(status)}}).Increment();
}

void Metrics::add_frames(int64_t frames) {
  state_->frames.Increment(static_cast<double>(frames));
}

void Metrics::add_song(JobState end, double work_s, double audio_s) {
  state_->songs.Add({{"state", job_state_name(end)}}).Increment();
  if (end != JobState::kDone || audio_s <= 0) return;
  state_->audio.Increment(audio_s);
  state_->real_time_factor.Observe(work_s / audio_s);
  ++state_->made;
  state_->made_ms += static_cast<int64_t>(1e3 * work_s);
}

void Metrics::add_first_audio(double seconds) {
  state_->first_audio.Observe(seconds);
}

void Metrics::set_in_batch(int64_t songs) {
  state_->in_batch.Set(static_cast<double>(songs));
}

void Metrics::set_room(const RoomCounts& room) {
  state_->used_pages.Set(static_cast<double>(room.pages - room.free));
  state_->free_pages.Set(static_cast<double>(room.free));
  state_->resting.Set(static_cast<double>(room.resting));
  state_->rests.Set(static_cast<double>(room.rests));
  state_->swapped.Set(static_cast<double>(room.swapped_bytes));
}

double Metrics::mean_song_seconds() const {
  const int64_t made = state_->made;
  return made == 0 ? 0 : 1e-3 * static_cast<double>(state_->made_ms) / static_cast<double>(made);
}

std::string Metrics::text(const std::map<JobState, int64_t>& jobs) const {
  for (const JobState state :
       {JobState::kQueued, JobState::kRunning, JobState::kDone, JobState::kFailed, JobState::kCancelled}) {
    const auto found = jobs.find(state);
    const int64_t count = found == jobs.end() ? 0 : found->second;
    state_->jobs.Add({{"state", job_state_name(state)}}).Set(static_cast<double>(count));
  }
  state_->memory.Set(static_cast<double>(resident_memory_bytes()));
  return prometheus::TextSerializer().Serialize(state_->registry.Collect());
}

}  // namespace heartmula
