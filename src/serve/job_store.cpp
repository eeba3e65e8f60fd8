#include "serve/job_store.h"

#include <unicode/normalizer2.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "base/error.h"
#include "serve/job_schema.h"

namespace heartmula {
namespace {

static_assert(std::endian::native == std::endian::little, "codes are kept as they lie in memory");

constexpr size_t kIdLength = 16;
constexpr std::string_view kIdLetters = "abcdefghijklmnopqrstuvwxyz234567";
constexpr size_t kLongestSearch = 1000;
constexpr size_t kReaders = 4;
constexpr int64_t kHourMs = 3'600'000;
constexpr std::chrono::seconds kLongestUnsynced(1);

constexpr std::array<const char*, 5> kStateNames = {"queued", "running", "done", "failed", "cancelled"};

/// $1, $2 and $3 are a lease.
constexpr const char* kIfLeased = " WHERE id = $1 AND worker = $2 AND attempt = $3 AND state = 'running'";

/// In the order in which job_of() reads them.
constexpr const char* kColumns =
    "id, number, set_id, variation, state, title, favourite, owner, request, begin_song, begin_to_ms, created_ms, "
    "started_ms, ended_ms, begin_frames, frames, max_frames, stage, stage_done, stage_total, seconds_left, "
    "audio_seconds, worker, attempt, cancel_requested, error, result, fingerprint, "
    "CASE WHEN state = 'queued' THEN (SELECT COUNT(*) FROM songs AS earlier "
    "WHERE earlier.state = 'queued' AND earlier.number < songs.number) END";

Job job_of(const SqlRow& row) {
  size_t column = 0;
  Job job;
  job.id = row.text(column++);
  job.number = row.integer(column++);
  job.set = row.text(column++);
  job.variation = row.integer(column++);
  job.state = job_state_named(row.text(column++)).value();
  job.title = row.text(column++);
  job.favourite = row.integer(column++) != 0;
  job.owner = row.text(column++);
  job.request = row.text(column++);
  if (!row.is_null(column)) job.begin = {row.text(column), row.integer(column + 1)};
  column += 2;
  job.created_ms = row.integer(column++);
  job.started_ms = row.maybe_integer(column++);
  job.ended_ms = row.maybe_integer(column++);
  job.begin_frames = row.integer(column++);
  job.frames = row.integer(column++);
  job.max_frames = row.integer(column++);
  job.stage = row.text(column++);
  job.stage_done = row.integer(column++);
  job.stage_total = row.integer(column++);
  job.seconds_left = row.maybe_real(column++);
  job.audio_seconds = row.maybe_real(column++).value_or(0);
  job.worker = row.text(column++);
  job.attempt = row.integer(column++);
  job.cancel_requested = row.integer(column++) != 0;
  job.error = row.text(column++);
  job.result = row.text(column++);
  job.fingerprint = row.text(column++);
  job.place = row.maybe_integer(column++);
  return job;
}

std::string random_id() {
  std::random_device device;
  std::string id(kIdLength, 'a');
  for (char& letter : id) letter = kIdLetters[device() % kIdLetters.size()];
  return id;
}

/// As it is compared: without case, widths and invisible characters.
std::string folded(const std::string& text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = icu::Normalizer2::getNFKCCasefoldInstance(status);
  icu::UnicodeString normal;
  // What is no UTF-8 becomes U+FFFD here.
  if (U_SUCCESS(status)) normal = normalizer->normalize(icu::UnicodeString::fromUTF8(text), status);
  if (U_FAILURE(status)) throw failure("a text cannot be prepared for search: {}", u_errorName(status));
  std::string result;
  normal.toUTF8String(result);
  std::replace(result.begin(), result.end(), '\0', ' ');  // which PostgreSQL's texts cannot hold
  return result;
}

/// For LIKE with ESCAPE '\'.
std::string pattern_of(const std::string& part) {
  std::string pattern = "%";
  for (const char c : folded(part)) {
    if (c == '%' || c == '_' || c == '\\') pattern += '\\';
    pattern += c;
  }
  return pattern + '%';
}

void check_title(const std::string& title) {
  std::string again;
  icu::UnicodeString::fromUTF8(title).toUTF8String(again);
  if (again != title || title.find('\0') != std::string::npos) throw user_error("title: holds what is no text");
}

Blob bytes_of(std::span<const Frame> frames) {
  const std::span<const std::byte> bytes = std::as_bytes(frames);
  return {bytes.begin(), bytes.end()};
}

SqlValues values_of(const Lease& lease) {
  return {lease.id, lease.worker, lease.attempt};
}

template <typename T>
SqlValue value_or_null(const std::optional<T>& value) {
  return value ? SqlValue(*value) : SqlValue();
}

std::string with_now(std::string sql, const Database& database) {
  constexpr std::string_view kMark = "{now}";
  for (size_t at = 0; (at = sql.find(kMark, at)) != std::string::npos;) {
    sql.replace(at, kMark.size(), database.dialect().now_ms);
  }
  return sql;
}

JobUsage usage_of(Database& database, const std::string& owner) {
  const SqlRows rows =
      database.run(with_now("SELECT CAST(COALESCE(SUM(CASE WHEN state = 'queued' THEN 1 ELSE 0 END), 0) AS BIGINT), "
                            "CAST(COALESCE(SUM(CASE WHEN created_ms <= {now} - $2 THEN 0 "
                            "WHEN state IN ('queued', 'running') THEN max_frames - begin_frames "
                            "ELSE frames - begin_frames END), 0) AS BIGINT), "
                            "(SELECT CAST(COALESCE(SUM(frames), 0) AS BIGINT) FROM spent "
                            "WHERE owner = $1 AND created_ms > {now} - $2) "
                            "FROM songs WHERE owner = $1 AND (state = 'queued' OR created_ms > {now} - $2)",
                            database),
                   {owner, kHourMs});
  const int64_t frames = rows.at(0).integer(1) + rows.at(0).integer(2);
  return {.queued = rows.at(0).integer(0), .seconds_last_hour = static_cast<double>(frames * kFrameMs) / 1000};
}

AddOutcome outcome_of(Database& database, const std::string& owner, const std::vector<NewJob>& jobs,
                      const JobLimits& limits) {
  const auto count = static_cast<int64_t>(jobs.size());
  if (limits.queued) {
    const SqlRows rows = database.run("SELECT COUNT(*) FROM songs WHERE state = 'queued'");
    if (rows.at(0).integer(0) + count > *limits.queued) return AddOutcome::kQueueFull;
  }
  if (!limits.queued_of_owner && !limits.seconds_per_hour) return AddOutcome::kAdded;
  const JobUsage usage = usage_of(database, owner);
  if (limits.queued_of_owner && usage.queued + count > *limits.queued_of_owner) return AddOutcome::kOwnerQueueFull;
  if (limits.seconds_per_hour) {
    double seconds = usage.seconds_last_hour;
    for (const NewJob& job : jobs) {
      const int64_t frames = job.max_frames - static_cast<int64_t>(job.begin_frames.size());
      seconds += static_cast<double>(frames * kFrameMs) / 1000;
    }
    if (seconds > *limits.seconds_per_hour) return AddOutcome::kOwnerSecondsUsed;
  }
  return AddOutcome::kAdded;
}

void insert_job(Database& database, const std::string& id, int64_t number, const std::string& set, int64_t variation,
                const std::string& owner, const NewJob& job) {
  const auto begin_frames = static_cast<int64_t>(job.begin_frames.size());
  database.run(
      with_now("INSERT INTO songs (id, number, set_id, variation, state, title, owner, request, begin_song, "
               "begin_to_ms, created_ms, begin_frames, frames, max_frames, fingerprint, search_title, search_text) "
               "VALUES ($1, $2, $3, $4, 'queued', $5, $6, $7, $8, $9, {now}, $10, $10, $11, $12, $13, $14)",
               database),
      {id, number, set, variation, job.title, owner, job.request, job.begin ? SqlValue(job.begin->id) : SqlValue(),
       job.begin ? SqlValue(job.begin->to_ms) : SqlValue(), begin_frames, job.max_frames,
       begin_frames > 0 ? job.fingerprint : std::string(), folded(job.title), folded(job.lyrics + '\n' + job.tags)});
  if (begin_frames > 0) {
    database.run("INSERT INTO frames (song, first, codes) VALUES ($1, 0, $2)", {id, bytes_of(job.begin_frames)});
  }
}

}  // namespace

const char* job_state_name(JobState state) {
  return kStateNames.at(static_cast<size_t>(state));
}

std::optional<JobState> job_state_named(std::string_view name) {
  const auto* const found = std::find(kStateNames.begin(), kStateNames.end(), name);
  if (found == kStateNames.end()) return std::nullopt;
  return static_cast<JobState>(found - kStateNames.begin());
}

bool is_over(JobState state) {
  return state != JobState::kQueued && state != JobState::kRunning;
}

bool is_job_id(std::string_view text) {
  return text.size() == kIdLength && text.find_first_not_of(kIdLetters) == std::string_view::npos;
}

struct JobStore::State {
  /// A transaction that remembers which jobs it changed.
  struct Change {
    Database& database;
    std::vector<std::string>& ids;

    SqlRows run(const std::string& sql, const SqlValues& values = {}) const {
      return database.run(with_now(sql, database), values);
    }
    void changed(const std::string& id) const { ids.push_back(id); }
  };

  State(std::unique_ptr<DatabaseSource> from, int64_t attempts)
      : source(std::move(from)),
        readers(*source, kReaders),
        writers(*source, source->writers()),
        fruitless_attempts(attempts) {}

  /// Commits what `work(change)` does, then tells of the jobs that it changed.
  template <typename Work>
  auto change(Durability durability, const Work& work) {
    std::vector<std::string> ids;
    auto result = writers.use([&](Database& database) {
      return database.transaction(durability, [&](Database& open) {
        ids.clear();
        const Change change{open, ids};
        auto done = work(change);
        const std::string notify(open.dialect().notify);
        for (const std::string& id : ids) {
          if (!notify.empty()) open.run(notify, {instance + ' ' + id});
        }
        return done;
      });
    });
    if (durability == Durability::kDurable && !ids.empty())
      last_sync = std::chrono::steady_clock::now().time_since_epoch();
    for (const std::string& id : ids) tell(id);
    return result;
  }

  /// The same of one worker's job: false, and nothing done, if its lease is lost.
  template <typename Work>
  bool leased_change(Durability durability, const Lease& lease, const Work& work) {
    return change(durability, [&](const Change& change) {
      const std::string sql = std::string("SELECT frames FROM songs") + kIfLeased;
      const SqlRows rows = change.run(sql + std::string(change.database.dialect().for_update), values_of(lease));
      if (rows.empty()) return false;
      work(change, rows[0].integer(0));
      return true;
    });
  }

  /// True, too, if the very same was done before.
  bool end(const Lease& lease, JobState state, const std::string& error, const std::string& result) {
    return change(Durability::kDurable, [&](const Change& change) {
      SqlValues values = values_of(lease);
      values.insert(values.end(), {job_state_name(state), error, result});
      const SqlRows ended = change.run(
          std::string("UPDATE songs SET state = $4, error = $5, result = $6, ended_ms = {now}, lease_until_ms = NULL, "
                      "stage = '', seconds_left = NULL") +
              kIfLeased + " RETURNING id",
          values);
      if (!ended.empty()) {
        change.changed(lease.id);
        return true;
      }
      const SqlRows before =
          change.run("SELECT id FROM songs WHERE id = $1 AND worker = $2 AND attempt = $3 AND state = $4",
                     {lease.id, lease.worker, lease.attempt, job_state_name(state)});
      return !before.empty();
    });
  }

  SqlRows read(const std::string& sql, const SqlValues& values) {
    return readers.use([&](Database& database) { return database.run(sql, values); });
  }

  void tell(const std::string& id) {
    std::shared_ptr<const std::function<void(const std::string&)>> hears;
    {
      const std::scoped_lock lock(mutex);
      hears = listener;
    }
    if (hears && *hears) (*hears)(id);
  }

  /// What other processes say; this one's own changes were told at once.
  void heard(const std::string& said) {
    const size_t space = said.find(' ');
    if (said.empty()) {
      tell("");
    } else if (space != std::string::npos && said.substr(0, space) != instance) {
      tell(said.substr(space + 1));
    }
  }

  const std::unique_ptr<DatabaseSource> source;
  ConnectionPool readers;
  ConnectionPool writers;
  const int64_t fruitless_attempts;
  const std::string instance = random_id();
  std::atomic<std::chrono::steady_clock::duration> last_sync{};
  std::mutex mutex;
  std::shared_ptr<const std::function<void(const std::string&)>> listener;
  std::jthread listening;  // ends before what it uses
};

JobStore::JobStore(std::unique_ptr<DatabaseSource> source, int64_t fruitless_attempts)
    : state_(std::make_unique<State>(std::move(source), fruitless_attempts)) {
  state_->writers.use([&](Database& database) { migrate_jobs(database, state_->source->name()); });
  if (state_->source->shared()) return;
  state_->change(Durability::kRelaxed, [](const State::Change& change) {
    change.run(
        "UPDATE songs SET state = CASE WHEN cancel_requested = 1 THEN 'cancelled' ELSE 'queued' END, "
        "ended_ms = CASE WHEN cancel_requested = 1 THEN {now} END, "
        "fruitless = fruitless + CASE WHEN stage IN ($1, $2) THEN 0 ELSE 1 END, "
        "stage = '', seconds_left = NULL, lease_until_ms = NULL WHERE state = 'running'",
        {kWaitingForCodec, kResting});
    return true;
  });
}

JobStore::~JobStore() = default;

void JobStore::set_listener(std::function<void(const std::string& id)> listener) {
  const std::scoped_lock lock(state_->mutex);
  state_->listener = std::make_shared<const std::function<void(const std::string&)>>(std::move(listener));
  if (!state_->source->shared() || state_->listening.joinable()) return;
  state_->listening = std::jthread([state = state_.get()](const std::stop_token& stop) {
    state->source->listen(stop, [&](const std::string& said) { state->heard(said); });
  });
}

Added JobStore::add(const std::string& owner, const std::vector<NewJob>& jobs, const JobLimits& limits) {
  for (const NewJob& job : jobs) check_title(job.title);
  std::vector<std::string> ids;
  for (size_t i = 0; i < jobs.size(); ++i) ids.push_back(random_id());
  return state_->change(Durability::kDurable, [&](const State::Change& change) {
    Database& database = change.database;
    Added added;
    // Whoever holds this row is alone in counting and adding.
    const SqlRows numbers = change.run("SELECT last FROM numbers" + std::string(database.dialect().for_update));
    added.outcome = outcome_of(database, owner, jobs, limits);
    if (added.outcome != AddOutcome::kAdded) return added;
    const int64_t last = numbers.at(0).integer(0);
    for (size_t i = 0; i < jobs.size(); ++i) {
      const auto count = static_cast<int64_t>(i) + 1;
      insert_job(database, ids[i], last + count, ids[0], count, owner, jobs[i]);
      const SqlRows rows = change.run(std::string("SELECT ") + kColumns + " FROM songs WHERE id = $1", {ids[i]});
      added.jobs.push_back(job_of(rows.at(0)));
      change.changed(ids[i]);
    }
    change.run("UPDATE numbers SET last = $1", {last + static_cast<int64_t>(jobs.size())});
    return added;
  });
}

std::optional<Job> JobStore::find(const std::string& id) {
  if (!is_job_id(id)) return std::nullopt;
  const SqlRows rows = state_->read(std::string("SELECT ") + kColumns + " FROM songs WHERE id = $1", {id});
  if (rows.empty()) return std::nullopt;
  return job_of(rows[0]);
}

JobPage JobStore::list(const JobFilter& filter) {
  if (filter.search.size() > kLongestSearch) throw user_error("search: longer than {} bytes", kLongestSearch);
  if (!filter.set.empty() && !is_job_id(filter.set)) return {};
  std::string conditions = "1 = 1";
  SqlValues values;
  const auto next = [&](SqlValue value) {
    values.push_back(std::move(value));
    return fmt::format("${}", values.size());
  };
  if (!filter.states.empty()) {
    std::string names;
    for (const JobState state : filter.states) {
      names += fmt::format("{}'{}'", names.empty() ? "" : ", ", job_state_name(state));
    }
    conditions += " AND state IN (" + names + ")";
  }
  if (!filter.search.empty()) {
    const std::string pattern = next(pattern_of(filter.search));
    conditions += fmt::format(R"( AND (search_title LIKE {0} ESCAPE '\' OR search_text LIKE {0} ESCAPE '\'))", pattern);
  }
  if (filter.favourite) conditions += *filter.favourite ? " AND favourite = 1" : " AND favourite = 0";
  if (!filter.set.empty()) conditions += " AND set_id = " + next(filter.set);
  if (filter.owner) conditions += " AND owner = " + next(*filter.owner);
  if (filter.before) conditions += " AND number < " + next(*filter.before);
  const SqlRows rows = state_->read(fmt::format("SELECT {} FROM songs WHERE {} ORDER BY number DESC LIMIT {}", kColumns,
                                                conditions, next(filter.limit + 1)),
                                    values);
  JobPage page;
  for (const SqlRow& row : rows) {
    if (static_cast<int64_t>(page.jobs.size()) == filter.limit) {
      page.next = page.jobs.empty() ? filter.before : page.jobs.back().number;
      break;
    }
    page.jobs.push_back(job_of(row));
  }
  return page;
}

std::map<JobState, int64_t> JobStore::counts() {
  std::map<JobState, int64_t> counts;
  for (size_t i = 0; i < kStateNames.size(); ++i) counts[static_cast<JobState>(i)] = 0;
  for (const SqlRow& row : state_->read("SELECT state, COUNT(*) FROM songs GROUP BY state", {})) {
    counts[job_state_named(row.text(0)).value()] = row.integer(1);
  }
  return counts;
}

JobUsage JobStore::usage(const std::string& owner) {
  return state_->readers.use([&](Database& database) { return usage_of(database, owner); });
}

bool JobStore::change(const std::string& id, const std::optional<std::string>& title, std::optional<bool> favourite) {
  if (title) check_title(*title);
  if (!is_job_id(id)) return false;
  const SqlValue search = title ? SqlValue(folded(*title)) : SqlValue();
  const SqlValue flag = favourite ? SqlValue(int64_t{*favourite}) : SqlValue();
  return state_->change(Durability::kDurable, [&](const State::Change& change) {
    const SqlRows rows = change.run(
        "UPDATE songs SET title = COALESCE($2, title), search_title = COALESCE($3, search_title), "
        "favourite = COALESCE($4, favourite) WHERE id = $1 RETURNING id",
        {id, value_or_null(title), search, flag});
    if (!rows.empty()) change.changed(id);
    return !rows.empty();
  });
}

RemoveOutcome JobStore::remove(const std::string& id) {
  if (!is_job_id(id)) return RemoveOutcome::kUnknown;
  return state_->change(Durability::kDurable, [&](const State::Change& change) {
    const SqlRows removed = change.run(
        "DELETE FROM songs WHERE id = $1 AND state <> 'running' RETURNING owner, created_ms, frames - begin_frames",
        {id});
    if (removed.empty()) {
      return change.run("SELECT id FROM songs WHERE id = $1", {id}).empty() ? RemoveOutcome::kUnknown
                                                                            : RemoveOutcome::kRunning;
    }
    change.run("DELETE FROM spent WHERE created_ms <= {now} - $1", {kHourMs});
    change.run("INSERT INTO spent (owner, created_ms, frames) VALUES ($1, $2, $3)",
               {removed[0].text(0), removed[0].integer(1), removed[0].integer(2)});
    change.changed(id);
    return RemoveOutcome::kRemoved;
  });
}

CancelOutcome JobStore::request_cancel(const std::string& id) {
  if (!is_job_id(id)) return CancelOutcome::kUnknown;
  return state_->change(Durability::kDurable, [&](const State::Change& change) {
    const SqlRows asked = change.run(
        "UPDATE songs SET cancel_requested = 1, ended_ms = CASE WHEN state = 'queued' THEN {now} END, "
        "state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END "
        "WHERE id = $1 AND state IN ('queued', 'running') RETURNING state",
        {id});
    if (!asked.empty()) {
      change.changed(id);
      return asked[0].text(0) == "running" ? CancelOutcome::kAsked : CancelOutcome::kCancelled;
    }
    return change.run("SELECT id FROM songs WHERE id = $1", {id}).empty() ? CancelOutcome::kUnknown
                                                                          : CancelOutcome::kOver;
  });
}

std::vector<Frame> JobStore::frames(const std::string& id) {
  if (!is_job_id(id)) return {};
  std::vector<Frame> frames;
  for (const SqlRow& row : state_->read("SELECT first, codes FROM frames WHERE song = $1 ORDER BY first", {id})) {
    const Blob& codes = row.blob(1);
    const size_t first = frames.size();
    if (row.integer(0) != static_cast<int64_t>(first) || codes.size() % sizeof(Frame) != 0) {
      throw failure("{}: the frames of song {} are damaged", state_->source->name(), id);
    }
    frames.resize(first + codes.size() / sizeof(Frame));
    std::memcpy(frames.data() + first, codes.data(), codes.size());
  }
  return frames;
}

std::optional<AudioPart> JobStore::audio(const std::string& id, const std::string& format, int64_t offset,
                                         int64_t count) {
  if (!is_job_id(id)) return std::nullopt;
  constexpr int64_t kMost = int64_t{1} << 30;  // neither database holds larger values
  const SqlRows rows =
      state_->read("SELECT length(data), substr(data, $3, $4) FROM audio WHERE song = $1 AND format = $2",
                   {id, format, std::clamp<int64_t>(offset, 0, kMost) + 1, std::clamp<int64_t>(count, 0, kMost - 2)});
  if (rows.empty()) return std::nullopt;
  // SQLite's part of nothing is NULL.
  return AudioPart{.size = rows[0].integer(0), .bytes = rows[0].is_null(1) ? Blob() : rows[0].blob(1)};
}

void JobStore::remove_audio(const std::string& id) {
  if (!is_job_id(id)) return;
  state_->change(Durability::kRelaxed, [&](const State::Change& change) {
    change.run("DELETE FROM audio WHERE song = $1", {id});
    return true;
  });
}

std::optional<Lease> JobStore::claim(const std::string& worker, int64_t lease_ms) {
  return state_->change(Durability::kDurable, [&](const State::Change& change) -> std::optional<Lease> {
    for (;;) {
      const SqlRows rows = change.run(
          "SELECT id, attempt, fruitless, cancel_requested, worker, state, stage FROM songs "
          "WHERE state = 'queued' OR (state = 'running' AND lease_until_ms < {now}) ORDER BY number LIMIT 1" +
          std::string(change.database.dialect().skip_locked));
      if (rows.empty()) return std::nullopt;
      const std::string& id = rows[0].text(0);
      change.changed(id);
      const bool cancelled = rows[0].integer(3) != 0;
      const std::string& stage = rows[0].text(6);
      const bool died_at_work = rows[0].text(5) == "running" && stage != kWaitingForCodec && stage != kResting;
      const int64_t fruitless = rows[0].integer(2) + (died_at_work ? 1 : 0);
      if (cancelled || fruitless >= state_->fruitless_attempts) {
        const std::string error =
            cancelled ? ""
                      : message("given up: {} attempts ended without a new frame, the last one in worker {}", fruitless,
                                rows[0].text(4));
        change.run(
            "UPDATE songs SET state = $2, error = $3, ended_ms = {now}, lease_until_ms = NULL, stage = '', "
            "seconds_left = NULL WHERE id = $1",
            {id, job_state_name(cancelled ? JobState::kCancelled : JobState::kFailed), error});
        continue;
      }
      Lease lease = {.id = id, .worker = worker, .attempt = rows[0].integer(1) + 1};
      change.run(
          "UPDATE songs SET state = 'running', worker = $2, attempt = $3, fruitless = $5, "
          "lease_until_ms = {now} + $4, started_ms = COALESCE(started_ms, {now}), stage = '', stage_done = 0, "
          "stage_total = 0, seconds_left = NULL WHERE id = $1",
          {id, worker, lease.attempt, lease_ms, fruitless});
      return lease;
    }
  });
}

Renewal JobStore::renew(std::span<const Lease> leases, int64_t lease_ms) {
  return state_->change(Durability::kRelaxed, [&](const State::Change& change) {
    Renewal renewal;
    for (const Lease& lease : leases) {
      SqlValues values = values_of(lease);
      values.emplace_back(lease_ms);
      const SqlRows rows = change.run(
          std::string("UPDATE songs SET lease_until_ms = {now} + $4") + kIfLeased + " RETURNING cancel_requested",
          values);
      if (rows.empty()) {
        renewal.lost.push_back(lease);
      } else if (rows[0].integer(0) != 0) {
        renewal.cancel_requested.push_back(lease);
      }
    }
    return renewal;
  });
}

bool JobStore::append_frames(const Lease& lease, int64_t first, std::span<const Frame> frames,
                             const std::string& fingerprint) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const bool sync = now - state_->last_sync.load() >= kLongestUnsynced;
  return state_->leased_change(
      sync ? Durability::kDurable : Durability::kRelaxed, lease, [&](const State::Change& change, int64_t known) {
        if (first > known) {
          throw failure("song {}: frames from {} on, but {} are there", lease.id, first, known);
        }
        const auto skipped = static_cast<size_t>(known - first);
        if (skipped >= frames.size()) return;
        const std::span<const Frame> added = frames.subspan(skipped);
        change.run("INSERT INTO frames (song, first, codes) VALUES ($1, $2, $3)", {lease.id, known, bytes_of(added)});
        change.run(
            "UPDATE songs SET frames = $2, fruitless = 0, "
            "fingerprint = CASE WHEN fingerprint = '' THEN $3 ELSE fingerprint END WHERE id = $1",
            {lease.id, known + static_cast<int64_t>(added.size()), fingerprint});
        change.changed(lease.id);
      });
}

bool JobStore::discard_frames(const Lease& lease, int64_t keep) {
  return state_->leased_change(Durability::kDurable, lease, [&](const State::Change& change, int64_t known) {
    if (keep >= known) return;
    change.run("DELETE FROM frames WHERE song = $1 AND first >= $2", {lease.id, keep});
    change.run(fmt::format("UPDATE frames SET codes = substr(codes, 1, CAST({0} * ($2 - first) AS INTEGER)) "
                           "WHERE song = $1 AND first + length(codes) / {0} > $2",
                           sizeof(Frame)),
               {lease.id, keep});
    change.run("UPDATE songs SET frames = $2, audio_seconds = 0 WHERE id = $1", {lease.id, keep});
    if (keep == 0) change.run("UPDATE songs SET fingerprint = '' WHERE id = $1", {lease.id});
    change.changed(lease.id);
  });
}

bool JobStore::report(const Lease& lease, const JobProgress& progress) {
  return state_->change(Durability::kRelaxed, [&](const State::Change& change) {
    SqlValues values = values_of(lease);
    values.insert(values.end(), {progress.stage, progress.done, progress.total, value_or_null(progress.seconds_left),
                                 progress.audio_seconds});
    const SqlRows rows =
        change.run(std::string("UPDATE songs SET stage = $4, stage_done = $5, stage_total = $6, seconds_left = $7, "
                               "audio_seconds = $8") +
                       kIfLeased + " RETURNING id",
                   values);
    if (!rows.empty()) change.changed(lease.id);
    return !rows.empty();
  });
}

bool JobStore::put_audio(const Lease& lease, const std::string& format, Blob data) {
  SqlValues values = {lease.id, format};
  values.emplace_back(std::move(data));
  return state_->leased_change(Durability::kRelaxed, lease, [&](const State::Change& change, int64_t /*known*/) {
    change.run(
        "INSERT INTO audio (song, format, data) VALUES ($1, $2, $3) "
        "ON CONFLICT (song, format) DO UPDATE SET data = excluded.data",
        values);
  });
}

bool JobStore::give_back(const Lease& lease) {
  return state_->change(Durability::kDurable, [&](const State::Change& change) {
    const SqlRows rows = change.run(
        std::string("UPDATE songs SET state = CASE WHEN cancel_requested = 1 THEN 'cancelled' ELSE 'queued' END, "
                    "ended_ms = CASE WHEN cancel_requested = 1 THEN {now} END, "
                    "lease_until_ms = NULL, stage = '', seconds_left = NULL") +
            kIfLeased + " RETURNING id",
        values_of(lease));
    if (!rows.empty()) change.changed(lease.id);
    return !rows.empty();
  });
}

bool JobStore::finish(const Lease& lease, const std::string& result) {
  return state_->end(lease, JobState::kDone, "", result);
}

bool JobStore::fail(const Lease& lease, const std::string& error) {
  return state_->end(lease, JobState::kFailed, message("{}", error), "");
}

bool JobStore::cancelled(const Lease& lease) {
  return state_->end(lease, JobState::kCancelled, "", "");
}

}  // namespace heartmula
