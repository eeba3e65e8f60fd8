// A flag that another thread or a signal handler raises to end the work.
#pragma once

#include <atomic>

namespace heartmula {

/// Raised once, looked at between the chunks of every operation. Safe to raise from a signal handler.
class CancelToken {
 public:
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const noexcept { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace heartmula
