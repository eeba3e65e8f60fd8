#include "serve/job_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "heartmula/error.h"
#include "serve/testing.h"

namespace heartmula {
namespace {

using serve_testing::Kind;
using serve_testing::TestDatabase;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int64_t kLeaseMs = 60'000;

Frame frame(int64_t t) {
  const auto code = static_cast<int32_t>(t);
  return {code, 8196, code + 1, 0, 7, 8191, 1, code % 5};
}

std::vector<Frame> frames_from(int64_t first, int64_t count) {
  std::vector<Frame> frames;
  for (int64_t t = first; t < first + count; ++t) frames.push_back(frame(t));
  return frames;
}

NewJob job(const std::string& title = "", const std::string& lyrics = "", const std::string& tags = "") {
  return {.title = title,
          .request = R"({"seed": 18446744073709551615})",
          .lyrics = lyrics,
          .tags = tags,
          .max_frames = 125};
}

template <typename Function>
std::string error_of(ErrorKind kind, const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "";
}

class JobStoreTest : public testing::TestWithParam<Kind> {
 protected:
  bool is_shared() const { return GetParam() == Kind::kPostgres; }
  std::unique_ptr<JobStore> open(int64_t fruitless_attempts = 5) const {
    return std::make_unique<JobStore>(database_.source(), fruitless_attempts);
  }
  static std::string add(JobStore& store, const NewJob& made = job(), const std::string& owner = "") {
    return store.add(owner, {made}).jobs.at(0).id;
  }
  static std::vector<std::string> titles(JobStore& store, const JobFilter& filter) {
    std::vector<std::string> titles;
    for (const Job& found : store.list(filter).jobs) titles.push_back(found.title);
    return titles;
  }

  TestDatabase database_{GetParam()};
};

TEST_P(JobStoreTest, what_was_added_is_found_as_it_was) {
  auto store = open();
  NewJob second = job("Second");
  second.begin = BeginSong{.id = "aaaaaaaaaaaaaaaa", .to_ms = 240};
  second.begin_frames = frames_from(0, 3);
  second.fingerprint = "model";
  const Added added = store->add("alice", {job("First"), second});
  ASSERT_EQ(added.jobs.size(), 2U);
  store = nullptr;
  store = open();
  const std::optional<Job> found = store->find(added.jobs[1].id);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->title, "Second");
  EXPECT_EQ(found->owner, "alice");
  EXPECT_EQ(found->request, second.request);
  EXPECT_EQ(found->set, added.jobs[0].id);
  EXPECT_EQ(found->variation, 2);
  EXPECT_EQ(found->place, 1);
  EXPECT_EQ(found->begin->id, "aaaaaaaaaaaaaaaa");
  EXPECT_EQ(found->begin->to_ms, 240);
  EXPECT_EQ(found->frames, 3);
  EXPECT_EQ(found->fingerprint, "model");
  EXPECT_EQ(store->frames(found->id), second.begin_frames);
  EXPECT_NEAR(static_cast<double>(found->created_ms), static_cast<double>(::time(nullptr)) * 1000, 60'000);
  EXPECT_TRUE(is_job_id(found->id));
  EXPECT_FALSE(found->started_ms);
  EXPECT_FALSE(store->find("aaaaaaaaaaaaaaaa"));
  EXPECT_FALSE(store->find(std::string("a\0'\xff", 4)));
}

TEST_P(JobStoreTest, a_job_goes_from_the_queue_to_its_end) {
  auto store = open();
  const std::string id = add(*store);
  const std::optional<Lease> lease = store->claim("w", kLeaseMs);
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->id, id);
  EXPECT_EQ(store->find(id)->state, JobState::kRunning);
  EXPECT_TRUE(store->find(id)->started_ms);
  EXPECT_FALSE(store->find(id)->place);
  EXPECT_TRUE(store->append_frames(*lease, 0, frames_from(0, 5), "model"));
  EXPECT_TRUE(store->append_frames(*lease, 5, frames_from(5, 5), "model"));
  EXPECT_TRUE(
      store->report(*lease, {.stage = "codec", .done = 1, .total = 4, .seconds_left = 2.5, .audio_seconds = 0.4}));
  const Job running = *store->find(id);
  EXPECT_EQ(running.frames, 10);
  EXPECT_EQ(running.fingerprint, "model");
  EXPECT_EQ(running.stage, "codec");
  EXPECT_EQ(running.seconds_left, 2.5);
  EXPECT_EQ(running.audio_seconds, 0.4);
  Blob audio(1000);
  for (size_t i = 0; i < audio.size(); ++i) audio[i] = static_cast<std::byte>(i);
  EXPECT_TRUE(store->put_audio(*lease, "flac", Blob{}));
  EXPECT_EQ(store->audio(id, "flac")->size, 0);
  EXPECT_TRUE(store->put_audio(*lease, "flac", audio));
  EXPECT_TRUE(store->finish(*lease, R"({"seconds": 0.8})"));
  EXPECT_TRUE(store->finish(*lease, R"({"seconds": 0.8})")) << "it may be said twice";
  EXPECT_FALSE(store->append_frames(*lease, 10, frames_from(10, 1), "model"));
  const Job done = *store->find(id);
  EXPECT_EQ(done.state, JobState::kDone);
  EXPECT_EQ(done.result, R"({"seconds": 0.8})");
  EXPECT_EQ(done.stage, "");
  EXPECT_TRUE(done.ended_ms);
  EXPECT_EQ(store->frames(id), frames_from(0, 10));
  EXPECT_EQ(store->audio(id, "flac")->bytes, audio);
  const AudioPart part = *store->audio(id, "flac", 990, 100);
  EXPECT_EQ(part.size, 1000);
  EXPECT_EQ(part.bytes, Blob(audio.begin() + 990, audio.end()));
  EXPECT_FALSE(store->audio(id, "wav"));
  EXPECT_EQ(store->counts()[JobState::kDone], 1);
  EXPECT_EQ(store->counts()[JobState::kQueued], 0);
  store->remove_audio(id);
  EXPECT_FALSE(store->audio(id, "flac"));
}

TEST_P(JobStoreTest, threads_never_claim_a_job_twice_and_keep_the_order) {
  auto store = open();
  constexpr int kJobs = 60;
  std::vector<std::string> order;
  for (int i = 0; i < kJobs / 4; ++i) {
    for (const Job& made : store->add("", {job(), job(), job(), job()}).jobs) order.push_back(made.id);
  }
  std::vector<std::vector<std::string>> claimed(8);
  std::vector<std::jthread> threads;
  for (auto& mine : claimed) {
    threads.emplace_back([&] {
      const std::string worker = "w" + std::to_string(&mine - claimed.data());
      while (const auto lease = store->claim(worker, kLeaseMs)) mine.push_back(lease->id);
    });
  }
  threads.clear();
  std::multiset<std::string> all;
  for (const auto& mine : claimed) {
    all.insert(mine.begin(), mine.end());
    std::vector<ptrdiff_t> places;
    for (const std::string& id : mine) places.push_back(std::ranges::find(order, id) - order.begin());
    EXPECT_TRUE(std::ranges::is_sorted(places));
  }
  EXPECT_EQ(all, std::multiset<std::string>(order.begin(), order.end()));
}

TEST_P(JobStoreTest, two_stores_of_one_database) {
  auto first = open();
  if (!is_shared()) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { open(); }), HasSubstr("another heartmula"));
    return;
  }
  auto second = open();
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) ids.push_back(add(*first));
  std::vector<std::string> claimed;
  std::mutex mutex;
  {
    std::vector<std::jthread> threads;
    for (JobStore* store : {first.get(), second.get()}) {
      threads.emplace_back([&, store] {
        while (const auto lease = store->claim("w", kLeaseMs)) {
          const std::scoped_lock lock(mutex);
          claimed.push_back(lease->id);
        }
      });
    }
  }
  std::ranges::sort(ids);
  std::ranges::sort(claimed);
  EXPECT_EQ(claimed, ids);
}

TEST_P(JobStoreTest, a_zombie_writes_nothing_and_is_told_so) {
  auto store = open();
  const std::string id = add(*store);
  const Lease zombie = *store->claim("first", 0);
  EXPECT_TRUE(store->append_frames(zombie, 0, frames_from(0, 4), "model"));
  std::this_thread::sleep_for(milliseconds(20));
  const Lease lease = *store->claim("second", kLeaseMs);
  EXPECT_EQ(lease.id, id);
  EXPECT_GT(lease.attempt, zombie.attempt);
  EXPECT_FALSE(store->append_frames(zombie, 4, frames_from(100, 4), "model"));
  EXPECT_FALSE(store->discard_frames(zombie, 0));
  EXPECT_FALSE(store->report(zombie, {.stage = "codec"}));
  EXPECT_FALSE(store->put_audio(zombie, "flac", Blob(3)));
  EXPECT_FALSE(store->give_back(zombie));
  EXPECT_FALSE(store->finish(zombie, "{}"));
  EXPECT_FALSE(store->fail(zombie, "no"));
  EXPECT_FALSE(store->cancelled(zombie));
  const Renewal renewal = store->renew(std::vector{zombie, lease}, kLeaseMs);
  ASSERT_EQ(renewal.lost.size(), 1U);
  EXPECT_EQ(renewal.lost[0].worker, "first");
  const Job running = *store->find(id);
  EXPECT_EQ(running.state, JobState::kRunning);
  EXPECT_EQ(running.stage, "");
  EXPECT_EQ(running.worker, "second");
  EXPECT_EQ(store->frames(id), frames_from(0, 4));
  EXPECT_TRUE(store->append_frames(lease, 4, frames_from(4, 1), "model"));
  EXPECT_FALSE(store->audio(id, "flac"));
  EXPECT_TRUE(store->finish(lease, "{}"));
  EXPECT_FALSE(store->finish(zombie, "{}"));
}

TEST_P(JobStoreTest, a_renewed_lease_does_not_expire) {
  auto store = open();
  const std::string id = add(*store);
  const Lease lease = *store->claim("first", 0);
  EXPECT_THAT(store->renew(std::vector{lease}, kLeaseMs).lost, IsEmpty());
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(store->claim("second", kLeaseMs));
}

TEST_P(JobStoreTest, frames_may_be_appended_again) {
  auto store = open();
  const std::string id = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  EXPECT_TRUE(store->append_frames(lease, 0, frames_from(0, 6), "model"));
  EXPECT_TRUE(store->append_frames(lease, 0, frames_from(0, 6), "model"));
  EXPECT_TRUE(store->append_frames(lease, 4, frames_from(4, 6), "other"));
  EXPECT_EQ(store->frames(id), frames_from(0, 10));
  EXPECT_EQ(store->find(id)->fingerprint, "model");
  EXPECT_THAT(error_of(ErrorKind::kFailure,
                       [&] { EXPECT_FALSE(store->append_frames(lease, 11, frames_from(11, 1), "model")); }),
              HasSubstr("frames from 11 on, but 10 are there"));
  EXPECT_TRUE(store->discard_frames(lease, 5));
  EXPECT_EQ(store->frames(id), frames_from(0, 5));
  EXPECT_TRUE(store->append_frames(lease, 5, frames_from(5, 5), "model"));
  EXPECT_EQ(store->frames(id), frames_from(0, 10));
  EXPECT_TRUE(store->discard_frames(lease, 0));
  EXPECT_THAT(store->frames(id), IsEmpty());
  EXPECT_TRUE(store->append_frames(lease, 0, frames_from(0, 1), "other"));
  EXPECT_EQ(store->find(id)->fingerprint, "other");
}

TEST_P(JobStoreTest, what_is_given_back_keeps_its_place_and_frames) {
  auto store = open();
  const std::string first = add(*store);
  const std::string second = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  EXPECT_TRUE(store->append_frames(lease, 0, frames_from(0, 6), "model"));
  EXPECT_TRUE(store->give_back(lease));
  EXPECT_EQ(store->find(first)->place, 0);
  EXPECT_EQ(store->find(second)->place, 1);
  const Lease again = *store->claim("w", kLeaseMs);
  EXPECT_EQ(again.id, first);
  EXPECT_FALSE(store->report(lease, {.stage = "frames"})) << "the same worker, but an earlier claim";
  EXPECT_EQ(store->find(first)->frames, 6);
}

TEST_P(JobStoreTest, cancelling) {
  auto store = open();
  const std::string running = add(*store);
  const std::string queued = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  EXPECT_EQ(store->request_cancel(queued), CancelOutcome::kCancelled);
  EXPECT_EQ(store->find(queued)->state, JobState::kCancelled);
  EXPECT_TRUE(store->find(queued)->ended_ms);
  EXPECT_EQ(store->request_cancel(running), CancelOutcome::kAsked);
  EXPECT_EQ(store->find(running)->state, JobState::kRunning);
  const Renewal renewal = store->renew(std::vector{lease}, kLeaseMs);
  ASSERT_EQ(renewal.cancel_requested.size(), 1U);
  EXPECT_TRUE(store->cancelled(lease));
  EXPECT_EQ(store->find(running)->state, JobState::kCancelled);
  EXPECT_EQ(store->request_cancel(running), CancelOutcome::kOver);
  EXPECT_EQ(store->request_cancel("aaaaaaaaaaaaaaaa"), CancelOutcome::kUnknown);

  const std::string abandoned = add(*store);
  EXPECT_TRUE(store->claim("w", 0));
  EXPECT_EQ(store->request_cancel(abandoned), CancelOutcome::kAsked);
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(store->claim("other", kLeaseMs));
  EXPECT_EQ(store->find(abandoned)->state, JobState::kCancelled);

  const std::string given_back = add(*store);
  const Lease last = *store->claim("w", kLeaseMs);
  EXPECT_EQ(store->request_cancel(given_back), CancelOutcome::kAsked);
  EXPECT_TRUE(store->give_back(last));
  EXPECT_EQ(store->find(given_back)->state, JobState::kCancelled);
}

TEST_P(JobStoreTest, a_job_that_kills_workers_fails_and_one_that_moves_on_does_not) {
  auto store = open(/*fruitless_attempts=*/3);
  const std::string poison = add(*store);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(store->claim("w" + std::to_string(i), 0));
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_FALSE(store->claim("w3", 0));
  EXPECT_EQ(store->find(poison)->state, JobState::kFailed);
  EXPECT_EQ(store->find(poison)->error, "given up: 3 attempts ended without a new frame, the last one in worker w2");

  const std::string slow = add(*store);
  for (int i = 0; i < 8; ++i) {
    const std::optional<Lease> lease = store->claim("w", 0);
    ASSERT_TRUE(lease);
    EXPECT_EQ(lease->id, slow);
    EXPECT_TRUE(store->append_frames(*lease, i, frames_from(i, 1), "model"));
    std::this_thread::sleep_for(milliseconds(5));
  }
  const Lease stopped = *store->claim("w", 0);
  EXPECT_TRUE(store->give_back(stopped));
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(store->give_back(*store->claim("w", kLeaseMs))) << "a clean stop is no attempt";

  for (int i = 0; i < 8; ++i) {
    const std::optional<Lease> lease = store->claim("w", 0);
    ASSERT_TRUE(lease) << "who waits for the codec is not what killed the worker";
    EXPECT_TRUE(store->report(*lease, {.stage = kWaitingForCodec}));
    std::this_thread::sleep_for(milliseconds(5));
  }
}

TEST_P(JobStoreTest, limits_hold_for_all_jobs_of_a_request_or_none) {
  auto store = open();
  const auto outcome = [&](const std::string& owner, size_t count, const JobLimits& limits) {
    return store->add(owner, std::vector<NewJob>(count, job()), limits).outcome;
  };
  EXPECT_EQ(outcome("a", 3, {.queued = 3}), AddOutcome::kAdded);
  EXPECT_EQ(outcome("b", 1, {.queued = 3}), AddOutcome::kQueueFull);
  EXPECT_EQ(outcome("a", 1, {.queued = 9, .queued_of_owner = 3}), AddOutcome::kOwnerQueueFull);
  EXPECT_EQ(outcome("b", 2, {.queued = 9, .queued_of_owner = 3}), AddOutcome::kAdded);
  EXPECT_EQ(outcome("b", 2, {.queued = 9, .queued_of_owner = 3}), AddOutcome::kOwnerQueueFull);
  EXPECT_EQ(outcome("c", 4, {.seconds_per_hour = 39}), AddOutcome::kOwnerSecondsUsed);
  EXPECT_EQ(outcome("c", 3, {.seconds_per_hour = 39}), AddOutcome::kAdded);
  EXPECT_EQ(store->counts()[JobState::kQueued], 8);
  EXPECT_EQ(store->usage("c").queued, 3);
  EXPECT_EQ(store->usage("c").seconds_last_hour, 30);

  // What was made counts, also when it is removed; what was not, does not.
  const std::string of_c = store->list({.owner = "c"}).jobs.back().id;
  std::optional<Lease> lease;
  while ((lease = store->claim("w", kLeaseMs))->id != of_c) {
  }
  EXPECT_TRUE(store->append_frames(*lease, 0, frames_from(0, 50), "model"));
  EXPECT_TRUE(store->finish(*lease, "{}"));
  EXPECT_EQ(store->usage("c").seconds_last_hour, 24);
  EXPECT_EQ(store->remove(of_c), RemoveOutcome::kRemoved);
  EXPECT_EQ(store->usage("c").seconds_last_hour, 24);
  EXPECT_EQ(store->usage("nobody").seconds_last_hour, 0);
}

TEST_P(JobStoreTest, limits_hold_when_many_add_at_once) {
  auto store = open();
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 4; ++j) store->add("", {job()}, {.queued = 10});
    });
  }
  threads.clear();
  EXPECT_EQ(store->counts()[JobState::kQueued], 10);
}

TEST_P(JobStoreTest, search_takes_every_character_as_it_is) {
  auto store = open();
  add(*store, job("100% Rain", "One_two\nthree", "piano,happy"));
  add(*store, job("100 times", "One two", "rock"));
  add(*store, job("Back\\slash", "", "jazz"));
  add(*store, job("\xC3\x84RGER", "STRASSE im Regen", "Klavier"));
  const auto found = [&](const std::string& text) {
    JobFilter filter;
    filter.search = text;
    return titles(*store, filter);
  };
  EXPECT_THAT(found("100%"), ElementsAre("100% Rain"));
  EXPECT_THAT(found("one_"), ElementsAre("100% Rain"));
  EXPECT_THAT(found("ONE"), ElementsAre("100 times", "100% Rain"));
  EXPECT_THAT(found("k\\s"), ElementsAre("Back\\slash"));
  EXPECT_THAT(found("PIANO"), ElementsAre("100% Rain"));
  EXPECT_THAT(found("\xC3\xA4rger"), ElementsAre("\xC3\x84RGER"));
  EXPECT_THAT(found("stra\xC3\x9F"), ElementsAre("\xC3\x84RGER"));
  EXPECT_THAT(found("' OR 1=1 --"), IsEmpty());
  EXPECT_THAT(found(std::string("100\0", 4)), ElementsAre("100 times"));
  EXPECT_THAT(found("\xff\xfe"), IsEmpty());
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { found(std::string(1001, 'a')); }), HasSubstr("1000 bytes"));
}

TEST_P(JobStoreTest, filters_and_changes) {
  auto store = open();
  const std::string first = add(*store, job("first"), "alice");
  const std::string second = add(*store, job("second"), "bob");
  EXPECT_TRUE(store->change(first, "F\xC3\xBCrst", true));
  EXPECT_TRUE(store->change(second, std::nullopt, std::nullopt));
  EXPECT_FALSE(store->change("aaaaaaaaaaaaaaaa", "x", true));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { store->change(first, std::string("a\0b", 3), {}); }),
              HasSubstr("title"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { store->change(first, "a\xff", {}); }), HasSubstr("title"));
  JobFilter filter;
  filter.favourite = true;
  EXPECT_THAT(titles(*store, filter), ElementsAre("F\xC3\xBCrst"));
  filter.favourite = false;
  EXPECT_THAT(titles(*store, filter), ElementsAre("second"));
  filter = {};
  filter.search = "f\xC3\x9CR";
  EXPECT_THAT(titles(*store, filter), ElementsAre("F\xC3\xBCrst"));
  filter = {};
  filter.owner = "bob";
  EXPECT_THAT(titles(*store, filter), ElementsAre("second"));
  filter = {};
  filter.set = first;
  EXPECT_THAT(titles(*store, filter), ElementsAre("F\xC3\xBCrst"));
  filter.set = "no id";
  EXPECT_THAT(titles(*store, filter), IsEmpty());
  ASSERT_TRUE(store->claim("w", kLeaseMs));
  filter = {};
  filter.states = {JobState::kRunning};
  EXPECT_THAT(titles(*store, filter), ElementsAre("F\xC3\xBCrst"));
  filter.states = {JobState::kRunning, JobState::kQueued};
  EXPECT_THAT(titles(*store, filter), ElementsAre("second", "F\xC3\xBCrst"));
}

TEST_P(JobStoreTest, paging_misses_nothing_while_songs_are_added) {
  auto store = open();
  std::vector<std::string> expected;
  for (int i = 0; i < 25; ++i) expected.insert(expected.begin(), add(*store));
  std::jthread adding([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) add(*store);
  });
  JobFilter filter;
  filter.limit = 4;
  std::vector<std::string> seen;
  int64_t last = std::numeric_limits<int64_t>::max();
  do {
    const JobPage page = store->list(filter);
    for (const Job& found : page.jobs) {
      EXPECT_LT(found.number, last);
      last = found.number;
      seen.push_back(found.id);
    }
    filter.before = page.next;
  } while (filter.before);
  adding.request_stop();
  ASSERT_GE(seen.size(), expected.size());
  EXPECT_EQ(std::vector(seen.end() - 25, seen.end()), expected);
}

TEST_P(JobStoreTest, removing_takes_frames_and_audio_along) {
  auto store = open();
  const std::string id = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  EXPECT_TRUE(store->append_frames(lease, 0, frames_from(0, 3), "model"));
  EXPECT_TRUE(store->put_audio(lease, "flac", Blob(10)));
  EXPECT_EQ(store->remove(id), RemoveOutcome::kRunning);
  EXPECT_TRUE(store->finish(lease, "{}"));
  EXPECT_EQ(store->remove(id), RemoveOutcome::kRemoved);
  EXPECT_EQ(store->remove(id), RemoveOutcome::kUnknown);
  EXPECT_FALSE(store->find(id));
  store = nullptr;
  const auto source = database_.source();
  const auto connection = source->connect();
  EXPECT_EQ(connection->run("SELECT COUNT(*) FROM frames")[0].integer(0), 0);
  EXPECT_EQ(connection->run("SELECT COUNT(*) FROM audio")[0].integer(0), 0);
  EXPECT_NE(error_of(ErrorKind::kFailure,
                     [&] { connection->run("INSERT INTO frames (song, first, codes) VALUES ('x', 0, $1)", {Blob()}); }),
            "");
}

TEST_P(JobStoreTest, every_change_is_heard_after_it_can_be_read) {
  auto store = open();
  std::mutex mutex;
  std::vector<std::string> heard;
  store->set_listener([&](const std::string& id) {
    const std::string state = id.empty() ? "" : !store->find(id) ? "removed" : job_state_name(store->find(id)->state);
    const std::scoped_lock lock(mutex);
    if (!state.empty()) heard.push_back(state);
  });
  const std::string id = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  EXPECT_TRUE(store->append_frames(lease, 0, frames_from(0, 1), "model"));
  EXPECT_TRUE(store->finish(lease, "{}"));
  EXPECT_FALSE(store->report(lease, {}));
  store->remove(id);
  if (is_shared()) std::this_thread::sleep_for(milliseconds(200));
  const std::scoped_lock lock(mutex);
  EXPECT_THAT(heard, ElementsAre("queued", "running", "running", "done", "removed"));
}

TEST_P(JobStoreTest, other_processes_are_heard) {
  if (!is_shared()) GTEST_SKIP() << "SQLite is of one process";
  auto store = open();
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> heard;
  store->set_listener([&](const std::string& id) {
    const std::scoped_lock lock(mutex);
    heard.push_back(id);
    changed.notify_all();
  });
  const auto hears = [&](const std::string& id) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(30), [&] { return std::ranges::count(heard, id) > 0; });
  };
  EXPECT_TRUE(hears("")) << "from here on it hears";
  auto other = open();
  EXPECT_TRUE(hears(add(*other)));
}

TEST_P(JobStoreTest, kill_in_the_middle_loses_no_frame_that_was_acknowledged) {
  const std::string id = add(*open());
  int64_t known = 0;
  for (int round = 0; round < 4; ++round) {
    std::array<int, 2> ends = {};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(ends[0]);
      try {
        const auto store = open();
        const std::optional<Lease> lease = store->claim("w" + std::to_string(round), 1);
        for (int64_t t = known; lease; ++t) {
          if (!store->append_frames(*lease, t, frames_from(t, 1), "model")) break;
          if (::write(ends[1], &t, sizeof(t)) != sizeof(t)) break;
        }
      } catch (...) {
      }
      ::_exit(1);
    }
    ::close(ends[1]);
    int64_t last = -1;
    for (int64_t t = 0; ::read(ends[0], &t, sizeof(t)) == sizeof(t);) {
      last = t;
      if (t == known + 20 + round) ::kill(child, SIGKILL);
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_GE(last, known + 20);

    const auto store = open();
    const auto count = static_cast<int64_t>(store->frames(id).size());
    EXPECT_GE(count, last + 1);
    EXPECT_EQ(store->frames(id), frames_from(0, count));
    const Job found = *store->find(id);
    EXPECT_EQ(found.frames, count);
    EXPECT_EQ(found.state, is_shared() ? JobState::kRunning : JobState::kQueued);
    known = count;
    std::this_thread::sleep_for(milliseconds(20));  // its lease ends
  }
  EXPECT_EQ(open()->claim("last", kLeaseMs)->attempt, 5);
}

// A file that may not grow any more: what a full disk is to a database.
TEST_P(JobStoreTest, goes_on_after_the_disk_was_full) {
  if (is_shared()) GTEST_SKIP() << "the server's disk is not ours";
  auto store = open();
  const std::string id = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 512 * 1024;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  int64_t known = 0;
  const std::string error = error_of(ErrorKind::kFailure, [&] {
    for (; known < 20'000; ++known) ASSERT_TRUE(store->append_frames(lease, known, frames_from(known, 1), "model"));
  });
  const std::string add_error = error_of(ErrorKind::kFailure, [&] {
    for (int i = 0; i < 1000; ++i) add(*store, job("title", std::string(100'000, 'a')));
  });
  const std::vector<Frame> meanwhile = store->frames(id);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_THAT(error, HasSubstr("File too large"));
  EXPECT_THAT(add_error, HasSubstr("File too large"));
  EXPECT_EQ(meanwhile, frames_from(0, known));
  EXPECT_TRUE(store->append_frames(lease, known, frames_from(known, 5), "model"));
  add(*store);
  store = nullptr;
  EXPECT_EQ(open()->frames(id), frames_from(0, known + 5));
}

TEST_P(JobStoreTest, a_full_file_system_is_named) {
  if (is_shared()) GTEST_SKIP() << "the server's disk is not ours";
  const std::filesystem::path folder = database_.folder() / "small";
  std::filesystem::create_directory(folder);
  if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=2m") != 0) GTEST_SKIP() << "cannot mount";
  {
    JobStore store(sqlite_source(folder / "jobs.db", "--data_dir"));
    const std::string error = error_of(ErrorKind::kFailure, [&] {
      for (int i = 0; i < 1000; ++i) add(store, job("title", std::string(100'000, 'a')));
    });
    EXPECT_THAT(error, HasSubstr("No space left on device"));
    const JobPage page = store.list({});
    ASSERT_THAT(page.jobs, Not(IsEmpty()));
  }
  ::umount(folder.c_str());
}

TEST_P(JobStoreTest, migrations_begin_where_a_database_is) {
  {
    const auto source = database_.source();
    const auto connection = source->connect();
    connection->run("CREATE TABLE heartmula_version (version BIGINT NOT NULL)");
    connection->run("INSERT INTO heartmula_version (version) VALUES (0)");
  }
  const std::string id = add(*open());
  EXPECT_TRUE(open()->find(id)) << "nothing is made twice";
  {
    const auto source = database_.source();
    source->connect()->run("UPDATE heartmula_version SET version = 1000");
  }
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { open(); }), HasSubstr("a newer heartmula"));
}

TEST_P(JobStoreTest, many_migrate_at_once) {
  if (!is_shared()) GTEST_SKIP() << "SQLite is of one process";
  std::vector<std::jthread> threads;
  std::atomic<int> opened = 0;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      try {
        open();
        ++opened;
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
    });
  }
  threads.clear();
  EXPECT_EQ(opened, 6);
}

TEST_P(JobStoreTest, a_transaction_that_throws_leaves_nothing) {
  { auto store = open(); }
  const auto source = database_.source();
  const auto connection = source->connect();
  for (const Durability durability : {Durability::kRelaxed, Durability::kDurable}) {
    EXPECT_THROW(connection->transaction(durability,
                                         [](Database& open) {
                                           open.run("UPDATE numbers SET last = 7");
                                           throw std::runtime_error("no");
                                         }),
                 std::runtime_error);
    EXPECT_NE(error_of(ErrorKind::kFailure,
                       [&] {
                         connection->transaction(durability, [](Database& open) {
                           open.run("UPDATE numbers SET last = 7");
                           open.run("this is not SQL");
                         });
                       }),
              "");
    EXPECT_EQ(connection->run("SELECT last FROM numbers")[0].integer(0), 0);
  }
}

TEST_P(JobStoreTest, values_come_back_as_they_went) {
  const auto source = database_.source();
  const auto connection = source->connect();
  connection->run("CREATE TABLE v (i BIGINT, r DOUBLE PRECISION, t TEXT, b BYTEA)");
  const Blob bytes = {std::byte{0}, std::byte{255}, std::byte{'\''}};
  connection->run("INSERT INTO v VALUES ($1, $2, $3, $4)",
                  {std::numeric_limits<int64_t>::min(), 0.1, "it's\n\xC3\xA4", bytes});
  connection->run("INSERT INTO v VALUES ($1, $2, $3, $4)", {std::monostate(), 1.0, "", Blob()});
  const SqlRows rows = connection->run("SELECT i, r, t, b FROM v ORDER BY r");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].integer(0), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(rows[0].maybe_real(1), 0.1);
  EXPECT_EQ(rows[0].text(2), "it's\n\xC3\xA4");
  EXPECT_EQ(rows[0].blob(3), bytes);
  EXPECT_FALSE(rows[1].maybe_integer(0));
  EXPECT_EQ(rows[1].maybe_real(1), 1.0);
  EXPECT_EQ(rows[1].text(2), "");
  EXPECT_EQ(rows[1].blob(3), Blob());
  EXPECT_THAT(error_of(ErrorKind::kFailure, [&] { rows[0].text(0); }), HasSubstr("column 0"));
}

TEST_P(JobStoreTest, a_server_that_restarts_is_waited_for) {
  const char* restart = ::getenv("HEARTMULA_TEST_POSTGRES_RESTART");
  if (!is_shared() || restart == nullptr) GTEST_SKIP() << "no server to restart";
  auto store = open();
  const std::string id = add(*store);
  const Lease lease = *store->claim("w", kLeaseMs);
  std::mutex mutex;
  std::condition_variable changed;
  int beginnings = 0;
  store->set_listener([&](const std::string& heard) {
    const std::scoped_lock lock(mutex);
    if (heard.empty()) ++beginnings;
    changed.notify_all();
  });
  const auto begins = [&](int count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(60), [&] { return beginnings >= count; });
  };
  EXPECT_TRUE(begins(1));
  int64_t known = 0;
  std::jthread restarting([&] { EXPECT_EQ(::system(restart), 0); });
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
       std::chrono::steady_clock::now() < until;) {
    try {
      ASSERT_TRUE(store->append_frames(lease, known, frames_from(known, 1), "model"));
      ++known;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("connection was lost while something was saved"));
    }
  }
  restarting.join();
  EXPECT_TRUE(store->append_frames(lease, known, frames_from(known, 1), "model"));
  EXPECT_EQ(store->frames(id), frames_from(0, known + 1));
  EXPECT_TRUE(begins(2)) << "and it hears again";
}

INSTANTIATE_TEST_SUITE_P(sqlite, JobStoreTest, testing::Values(Kind::kSqlite),
                         [](const auto&) { return std::string("sqlite"); });
INSTANTIATE_TEST_SUITE_P(postgres, JobStoreTest,
                         testing::ValuesIn(serve_testing::has_postgres() ? std::vector{Kind::kPostgres}
                                                                         : std::vector<Kind>{}),
                         [](const auto&) { return std::string("postgres"); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(JobStoreTest);

TEST(Postgres, never_shows_a_password) {
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { postgres_source("postgresql://u:sec%zzret@host/db"); }),
              Not(HasSubstr("ret")));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { postgres_source("secret"); }), Not(HasSubstr("secret")));
  const std::string error =
      error_of(ErrorKind::kFailure, [] { postgres_source("postgresql://user:secret@127.0.0.1:1/songs")->connect(); });
  EXPECT_THAT(error, HasSubstr("cannot connect to PostgreSQL database songs at 127.0.0.1: "));
  EXPECT_THAT(error, HasSubstr("refused"));
  EXPECT_THAT(error, Not(HasSubstr("secret")));
  EXPECT_THAT(error, Not(HasSubstr("\\x0a")));
}

TEST(Sqlite, waits_for_the_disk_where_it_is_asked_to) {
  const TestDatabase database(Kind::kSqlite);
  const auto source = database.source();
  const auto connection = source->connect();
  const auto synchronous = [&](Durability durability, const std::string& sql) {
    return connection->transaction(durability, [&](Database& open) { return open.run(sql)[0].integer(0); });
  };
  // Each with a text of its own: some pragmas answer when they are prepared.
  EXPECT_EQ(synchronous(Durability::kRelaxed, "PRAGMA synchronous"), 1);
  EXPECT_EQ(synchronous(Durability::kDurable, "PRAGMA synchronous "), 2);
  EXPECT_EQ(synchronous(Durability::kRelaxed, "PRAGMA synchronous  "), 1);
  EXPECT_EQ(connection->run("PRAGMA foreign_keys")[0].integer(0), 1);
  EXPECT_EQ(connection->run("PRAGMA journal_mode")[0].text(0), "wal");
}

TEST(Sqlite, says_what_is_wrong_with_a_file) {
  const TestDatabase database(Kind::kSqlite);
  const std::filesystem::path path = database.folder() / "text.db";
  {
    std::FILE* file = std::fopen(path.c_str(), "w");
    for (int i = 0; i < 1000; ++i) std::fputs("this is no database\n", file);
    std::fclose(file);
  }
  EXPECT_THAT(error_of(ErrorKind::kFailure, [&] { JobStore store(sqlite_source(path, "--data_dir")); }),
              HasSubstr("text.db: the file is damaged, or no database of heartmula"));
  EXPECT_THAT(error_of(ErrorKind::kFailure,
                       [&] { JobStore store(sqlite_source(database.folder() / "no/jobs.db", "--data_dir")); }),
              HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace heartmula
