// Streams: queues of work that is done in order, when something waits for it.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace heartmula::cuda::emulated {

using Work = std::function<void()>;

struct Nodes {
  std::vector<Work> work;
};

class Queue {
 public:
  /// Adds to the graph that is being captured, if one is, else to the queue.
  cudaError_t add(Work work);
  /// Does the first `place` pieces of all that were ever added.
  void run_to(uint64_t place);
  void run_all() { run_to(added()); }
  uint64_t added() const { return added_; }
  bool capturing() const { return capture_ != nullptr; }
  void capture_to(std::shared_ptr<Nodes> nodes) { capture_ = std::move(nodes); }
  const std::shared_ptr<Nodes>& capture() const { return capture_; }

 private:
  std::mutex adding_;
  std::mutex running_;
  std::deque<Work> work_;
  std::atomic<uint64_t> added_ = 0;
  std::atomic<uint64_t> done_ = 0;
  std::shared_ptr<Nodes> capture_;
};

/// Of a stream; of the default stream for null.
Queue& queue_of(cudaStream_t stream);
/// Adds work to a stream; on the default stream it waits for all others and is done at once.
cudaError_t add_work(cudaStream_t stream, Work work);
/// Does all that lies in any stream.
void run_everything();
/// Whether this thread captures a stream in a mode that forbids calls that wait.
bool forbids_waiting();

cudaError_t launch(cudaStream_t stream, Kernel kernel);

}  // namespace heartmula::cuda::emulated
