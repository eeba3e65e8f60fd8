// Copies that are under way while a block goes on, and the barriers in shared memory that count them. Half of them are
// done at once and half of them as late as possible (when the thread waits, or no thread can go on), so that neither an
// early read nor an early write goes unnoticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace heartmula::cuda::emulated {

struct Copy {
  void* to;
  const void* from;
  int bytes;
  int zeros;  // after them
};
void perform(const Copy& copy);

/// Of one thread, in groups (cp.async).
class ThreadCopies {
 public:
  void add(const Copy& copy);
  void commit();
  /// Until at most `left` groups are under way.
  void wait(size_t left);
  void clear();

 private:
  std::vector<Copy> copies_;
  std::deque<std::vector<Copy>> groups_;
};

/// Of a block (cp.async.bulk), each counted by a barrier.
class BulkCopies {
 public:
  void add(const Copy& copy, uint64_t* barrier);
  void finish();
  bool empty() const { return pending_.empty(); }

 private:
  struct Pending {
    Copy copy;
    uint64_t* barrier;
  };
  std::vector<Pending> pending_;
};

void init_mbarrier(uint64_t* barrier, int arrivals);
/// `arrivals` fewer are awaited in this phase, and `bytes` more (fewer, if negative).
void update_mbarrier(uint64_t* barrier, int arrivals, int bytes);
/// Until the phase of this parity is over.
void wait_mbarrier(uint64_t* barrier, int parity);

}  // namespace heartmula::cuda::emulated
