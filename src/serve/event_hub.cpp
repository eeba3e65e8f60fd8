#include "serve/event_hub.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace heartmula {
namespace {

constexpr std::chrono::milliseconds kPause{100};  // between two rounds: changes in it are told of once
constexpr int64_t kPlacesTold = 50;               // of the queue, when it moves

}  // namespace

Subscription::~Subscription() {
  const std::lock_guard lock(hub_.mutex_);
  hub_.subscriptions_.remove(this);
}

std::shared_ptr<const SongEvent> Subscription::next(std::chrono::milliseconds patience) {
  std::unique_lock lock(hub_.mutex_);
  changed_.wait_for(lock, patience, [this] { return !events_.empty(); });
  if (events_.empty()) return nullptr;
  std::shared_ptr<const SongEvent> event = std::move(events_.front());
  events_.pop_front();
  return event;
}

EventHub::EventHub(JobStore& store, std::function<std::string(const Job&)> text_of)
    : store_(store), text_of_(std::move(text_of)), thread_([this] { run(); }) {}

EventHub::~EventHub() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void EventHub::notice(const std::string& id) {
  const std::lock_guard lock(mutex_);
  if (subscriptions_.empty()) return;
  if (id.empty()) {
    queue_moves_ = true;
  } else {
    news_.insert(id);
  }
  changed_.notify_one();
}

std::unique_ptr<Subscription> EventHub::subscribe(std::optional<std::string> id, std::optional<std::string> owner) {
  std::unique_ptr<Subscription> subscription(new Subscription(*this, std::move(id), std::move(owner)));
  const std::lock_guard lock(mutex_);
  subscriptions_.push_back(subscription.get());
  return subscription;
}

std::shared_ptr<const SongEvent> EventHub::event_of(const Job& job) const {
  return std::make_shared<SongEvent>(SongEvent{.id = job.id,
                                               .owner = job.owner,
                                               .is_over = is_over(job.state),
                                               .text = "event: song\ndata: " + text_of_(job) + "\n\n"});
}

void EventHub::run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    changed_.wait(lock, [this] { return ends_ || queue_moves_ || !news_.empty(); });
    if (ends_) return;
    const std::set<std::string> news = std::exchange(news_, {});
    bool moves = std::exchange(queue_moves_, false);
    lock.unlock();
    try {
      for (const std::string& id : news) tell(id);
      lock.lock();
      moves = std::exchange(queue_moves_, false) || moves;
      lock.unlock();
      if (moves) {
        JobFilter queued;
        queued.states = {JobState::kQueued};
        queued.limit = kPlacesTold;
        for (const Job& job : store_.list(queued).jobs) {
          deliver(event_of(job));
        }
      }
    } catch (const std::exception& error) {
      spdlog::error(error.what());
    }
    lock.lock();
    changed_.wait_for(lock, kPause, [this] { return ends_; });
  }
}

void EventHub::tell(const std::string& id) {
  const std::optional<Job> job = store_.find(id);
  std::string owner = job ? job->owner : std::string();
  {
    const std::lock_guard lock(mutex_);
    const auto known = owners_.find(id);
    if (!job && known != owners_.end()) owner = known->second;
    // A new song, or one that ends, moves others.
    if (known == owners_.end() || !job || is_over(job->state)) queue_moves_ = true;
    if (job && !is_over(job->state)) {
      owners_[id] = owner;
    } else {
      owners_.erase(id);
    }
  }
  if (job) return deliver(event_of(*job));
  deliver(std::make_shared<SongEvent>(
      SongEvent{.id = id,
                .owner = owner,
                .is_over = true,
                .text = "event: deleted\ndata: " + nlohmann::json({{"id", id}}).dump() + "\n\n"}));
}

void EventHub::deliver(const std::shared_ptr<const SongEvent>& event) {
  const std::lock_guard lock(mutex_);
  for (Subscription* subscription : subscriptions_) {
    if (subscription->id_ && *subscription->id_ != event->id) continue;
    const bool is_known = !event->owner.empty();  // not of a song that is gone: only its id is told
    if (subscription->owner_ && is_known && *subscription->owner_ != event->owner) continue;
    auto& events = subscription->events_;
    const auto same = std::ranges::find_if(events, [&](const auto& other) { return other->id == event->id; });
    if (same == events.end()) {
      events.push_back(event);
    } else {
      *same = event;
    }
    subscription->changed_.notify_one();
  }
}

}  // namespace heartmula
