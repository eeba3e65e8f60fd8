// The jobs of a server: songs that were asked for, where each stands, and what is made of it so far. What it says was
// done is in the database.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "heartmula/frame.h"
#include "serve/database.h"

namespace heartmula {

enum class JobState { kQueued, kRunning, kDone, kFailed, kCancelled };
/// "queued", "running", ...
const char* job_state_name(JobState state);
std::optional<JobState> job_state_named(std::string_view name);
/// Done, failed or cancelled.
bool is_over(JobState state);

/// 16 of [a-z2-7].
bool is_job_id(std::string_view text);

struct BeginSong {
  std::string id = {};
  int64_t to_ms = 0;
};

struct NewJob {
  std::string title = {};
  std::string request = {};  // JSON, kept as it is
  std::string lyrics = {};   // for search only
  std::string tags = {};     // for search only
  int64_t max_frames = 0;    // with those that it begins with
  std::optional<BeginSong> begin = {};
  std::vector<Frame> begin_frames = {};
  std::string fingerprint = {};  // of the model that made begin_frames
};

struct Job {
  std::string id;
  int64_t number = 0;  // counts up; jobs are made in its order
  std::string set;     // id of the first of those that were added together
  int64_t variation = 1;
  JobState state = JobState::kQueued;
  std::optional<int64_t> place;  // queued: how many queued ones come before it
  std::string title;
  bool favourite = false;
  std::string owner;
  std::string request;
  std::optional<BeginSong> begin;
  int64_t created_ms = 0;  // Unix time
  std::optional<int64_t> started_ms;
  std::optional<int64_t> ended_ms;
  int64_t begin_frames = 0;
  int64_t frames = 0;  // so far, with those that it began with
  int64_t max_frames = 0;
  std::string stage;  // empty unless running
  int64_t stage_done = 0;
  int64_t stage_total = 0;
  std::optional<double> seconds_left;
  double audio_seconds = 0;
  std::string worker;  // that has it, or had it last
  int64_t attempt = 0;
  bool cancel_requested = false;
  std::string error;        // failed
  std::string result;       // done: JSON, kept as it is
  std::string fingerprint;  // of the model that made the frames; empty where there are none
};

/// A worker's right to write to a job. It ends when another worker claims the job: the writes of the first are refused
/// from then on, whatever it believes.
struct Lease {
  std::string id = {};
  std::string worker = {};
  int64_t attempt = 0;
};

/// None where there is no value.
struct JobLimits {
  std::optional<int64_t> queued = {};
  std::optional<int64_t> queued_of_owner = {};
  std::optional<double> seconds_per_hour = {};  // of audio, of an owner
};

struct JobUsage {
  int64_t queued = 0;
  double seconds_last_hour = 0;  // of audio: made, or to be made at most, of jobs added within the hour
};

enum class AddOutcome { kAdded, kQueueFull, kOwnerQueueFull, kOwnerSecondsUsed };
struct Added {
  AddOutcome outcome = AddOutcome::kAdded;
  std::vector<Job> jobs;  // none unless added
};

struct JobFilter {
  std::vector<JobState> states = {};  // any if empty
  std::string search = {};            // a part of title, lyrics or tags, whatever its case; any if empty
  std::optional<bool> favourite = {};
  std::string set = {};  // any if empty
  std::optional<std::string> owner = {};
  std::optional<int64_t> before = {};  // Job::number, or JobPage::next
  int64_t limit = 50;
};
struct JobPage {
  std::vector<Job> jobs;  // newest first
  std::optional<int64_t> next;
};

enum class RemoveOutcome { kRemoved, kRunning, kUnknown };
enum class CancelOutcome { kCancelled, kAsked, kOver, kUnknown };

/// Of a job whose frames are made and whose audio is not begun: others are before it.
constexpr const char* kWaitingForCodec = "waiting";
constexpr const char* kResting = "resting";  // others have its room in memory

struct JobProgress {
  std::string stage = {};  // "frames", kResting, kWaitingForCodec, "codec"
  int64_t done = 0;
  int64_t total = 0;
  std::optional<double> seconds_left = {};
  double audio_seconds = 0;  // that are final
};

struct Renewal {
  std::vector<Lease> lost;
  std::vector<Lease> cancel_requested;
};

struct AudioPart {
  int64_t size = 0;  // of the whole
  Blob bytes;
};

/// For any number of threads. Throws Error(kFailure) if the database cannot do it: nothing is done then, unless the
/// connection to a server broke just when something was saved. Every function that takes a lease may be called again
/// then, and says false if the lease is lost.
///
/// Accepted jobs, ends of jobs, and what a user changed are on the disk when a function returns, frames within a second
/// of them; a killed program loses nothing.
class JobStore {
 public:
  /// Brings the database to the newest version; Error(kUser) if it is of a newer one than this program knows. What was
  /// running in a database that is of one process alone is queued again, in its old place.
  /// `fruitless_attempts`: a job on which so many workers died without a new frame fails, for it may be what killed
  /// them. One that waits for the codec is not worked on.
  explicit JobStore(std::unique_ptr<DatabaseSource> source, int64_t fruitless_attempts = 5);
  ~JobStore();
  JobStore(const JobStore&) = delete;
  JobStore& operator=(const JobStore&) = delete;

  /// Hears the id of every job that was added, changed or removed, after it was committed, in any thread: by this
  /// process or, in a shared database, by another one. An empty id: any may have changed. May use the store; does not
  /// throw.
  void set_listener(std::function<void(const std::string& id)> listener);

  // Users' part.

  /// All or none of them, as one set. Error(kUser) if a title holds what is no text.
  Added add(const std::string& owner, const std::vector<NewJob>& jobs, const JobLimits& limits = {});
  std::optional<Job> find(const std::string& id);
  JobPage list(const JobFilter& filter);
  std::map<JobState, int64_t> counts();
  JobUsage usage(const std::string& owner);
  /// False if there is no such job. Error(kUser) if the title holds what is no text.
  bool change(const std::string& id, const std::optional<std::string>& title, std::optional<bool> favourite);
  /// With its frames and audio.
  RemoveOutcome remove(const std::string& id);
  CancelOutcome request_cancel(const std::string& id);
  std::vector<Frame> frames(const std::string& id);
  /// Bytes from `offset` on, `count` at most.
  std::optional<AudioPart> audio(const std::string& id, const std::string& format, int64_t offset = 0,
                                 int64_t count = int64_t{1} << 40);
  void remove_audio(const std::string& id);

  // Workers' part.

  /// The oldest job that is queued, or whose worker has let its lease expire. `worker`: a name that no other has, and
  /// that is new at each start.
  std::optional<Lease> claim(const std::string& worker, int64_t lease_ms);
  Renewal renew(std::span<const Lease> leases, int64_t lease_ms);
  /// `first`: how many frames come before them, none that the store lacks. Frames that it has already stay as they are.
  /// `fingerprint`: of the model, kept with the job's first ones.
  [[nodiscard]] bool append_frames(const Lease& lease, int64_t first, std::span<const Frame> frames,
                                   const std::string& fingerprint);
  /// Keeps the first `keep` frames only; without any, the fingerprint goes, too.
  [[nodiscard]] bool discard_frames(const Lease& lease, int64_t keep);
  [[nodiscard]] bool report(const Lease& lease, const JobProgress& progress);
  [[nodiscard]] bool put_audio(const Lease& lease, const std::string& format, Blob data);
  /// Queued again in its old place, with its frames; cancelled if that was asked for.
  [[nodiscard]] bool give_back(const Lease& lease);
  [[nodiscard]] bool finish(const Lease& lease, const std::string& result);
  [[nodiscard]] bool fail(const Lease& lease, const std::string& error);
  [[nodiscard]] bool cancelled(const Lease& lease);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula
