// Who wants to know when songs change, and what they are told: Server-Sent Events.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "serve/job_store.h"

namespace heartmula {

/// A song, as an event of a stream: "event: song\ndata: {...}\n\n".
struct SongEvent {
  std::string id;
  std::string owner;
  bool is_over = false;  // the last one of its song
  std::string text;
};

class EventHub;

/// What one client hears.
class Subscription {
 public:
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  /// The next event, or null after `patience`. Of a song that changes faster than they are taken only the latest state
  /// comes.
  std::shared_ptr<const SongEvent> next(std::chrono::milliseconds patience);

 private:
  friend class EventHub;
  Subscription(EventHub& hub, std::optional<std::string> id, std::optional<std::string> owner)
      : hub_(hub), id_(std::move(id)), owner_(std::move(owner)) {}

  EventHub& hub_;
  std::optional<std::string> id_;     // of the song; of all without it
  std::optional<std::string> owner_;  // whose songs; everybody's without it
  std::condition_variable changed_;
  std::deque<std::shared_ptr<const SongEvent>> events_;
};

class EventHub {
 public:
  /// `text_of` makes a job's event. All must outlive the hub.
  EventHub(JobStore& store, std::function<std::string(const Job&)> text_of);
  ~EventHub();
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;

  /// From any thread, at once: this song changed; any may have, if `id` is empty.
  void notice(const std::string& id);
  std::unique_ptr<Subscription> subscribe(std::optional<std::string> id, std::optional<std::string> owner);
  std::shared_ptr<const SongEvent> event_of(const Job& job) const;

 private:
  friend class Subscription;

  void run();
  void tell(const std::string& id);
  void deliver(const std::shared_ptr<const SongEvent>& event);

  JobStore& store_;
  std::function<std::string(const Job&)> text_of_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> news_;                 // songs to tell of
  std::map<std::string, std::string> owners_;  // of songs that were told of and are not over
  bool queue_moves_ = false;                   // places have changed
  bool ends_ = false;
  std::list<Subscription*> subscriptions_;
  std::thread thread_;
};

}  // namespace heartmula
