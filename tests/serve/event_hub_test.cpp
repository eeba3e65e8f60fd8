#include "serve/event_hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/testing.h"

namespace heartmula {
namespace {

using namespace std::chrono_literals;
using serve_testing::Kind;
using serve_testing::TestDatabase;
using testing::HasSubstr;

class Events : public testing::Test {
 protected:
  Events()
      : store(database.source()), hub(store, [](const Job& job) { return std::string(job_state_name(job.state)); }) {
    store.set_listener([this](const std::string& id) { hub.notice(id); });
  }
  ~Events() override { store.set_listener({}); }

  Job add(const std::string& owner) {
    NewJob job;
    job.request = "{}";
    job.max_frames = 10;
    return store.add(owner, {job}).jobs.front();
  }
  // Whether one of this song comes that says so; places in the queue make others.
  static bool hears(Subscription& news, const std::string& id, const std::string& text) {
    for (;;) {
      const auto event = news.next(5s);
      if (!event) return false;
      if (event->id == id && event->text.find(text) != std::string::npos) return true;
    }
  }

  TestDatabase database{Kind::kSqlite};
  JobStore store;
  EventHub hub;
};

TEST_F(Events, tell_of_one_song_or_of_all) {
  const auto all = hub.subscribe(std::nullopt, std::nullopt);
  const Job first = add("");
  const auto one = hub.subscribe(first.id, std::nullopt);
  EXPECT_TRUE(hears(*all, first.id, "event: song\ndata: queued\n\n"));
  const Job second = add("");
  EXPECT_TRUE(hears(*all, second.id, "queued"));
  store.request_cancel(first.id);
  EXPECT_TRUE(hears(*one, first.id, "event: song\ndata: cancelled\n\n"));
  store.remove(second.id);
  EXPECT_TRUE(hears(*all, second.id, "event: deleted"));
}

TEST_F(Events, an_owner_hears_of_its_own_songs_alone) {
  const auto mine = hub.subscribe(std::nullopt, "anna");
  const Job other = add("bert");
  const Job own = add("anna");
  const auto event = mine->next(5s);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->id, own.id);
  EXPECT_NE(event->id, other.id);
}

TEST_F(Events, who_is_slow_hears_the_latest_state_once) {
  const auto slow = hub.subscribe(std::nullopt, std::nullopt);
  const auto quick = hub.subscribe(std::nullopt, std::nullopt);
  const Job job = add("");
  EXPECT_TRUE(hears(*quick, job.id, "queued"));
  store.request_cancel(job.id);
  EXPECT_TRUE(hears(*quick, job.id, "cancelled"));
  EXPECT_THAT(slow->next(5s)->text, HasSubstr("cancelled"));
  EXPECT_FALSE(slow->next(0ms));
}

}  // namespace
}  // namespace heartmula
