// Which cpus a thread may run on, and pinning it to one of them.
#pragma once

#include <thread>
#include <vector>

namespace heartmula {

/// The cpus that the calling thread may run on when it is not pinned, ascending; empty if the system does not say.
std::vector<int> affinity();

/// Keeps a thread on one cpu; false if the system refuses. The calling thread remembers what it could use before;
/// pinning it again to the same cpu costs a comparison.
bool pin_thread(int cpu);
bool pin_thread(std::thread& thread, int cpu);

/// Gives the calling thread back what it could use before pin_thread; nothing if it is not pinned.
void unpin_thread();

/// For calls into the library: their thread is the caller's, and leaves as it came.
class UnpinAtEnd {
 public:
  UnpinAtEnd() = default;
  ~UnpinAtEnd() { unpin_thread(); }
  UnpinAtEnd(const UnpinAtEnd&) = delete;
  UnpinAtEnd& operator=(const UnpinAtEnd&) = delete;
};

}  // namespace heartmula
