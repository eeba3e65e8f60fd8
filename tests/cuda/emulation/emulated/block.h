// A grid of threads on one host thread: its blocks run one after another, a block's threads take turns where they wait
// for each other. All state belongs to the host thread, so two of them may run kernels at once.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "emulated/copies.h"
#include "emulated/fibre.h"
#include "emulated/vector_types.h"

namespace heartmula::cuda::emulated {

constexpr int kMostThreads = 1024;
constexpr int kLanes = 32;

/// A kernel with its arguments, as it was launched.
struct Kernel {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  bool must_wait = false;      // for the kernel before it (wait_for_previous)
  std::function<void()> body;  // of one thread
  const char* file = "";       // of its launch
  int line = 0;
};

/// Runs every thread of every block. Aborts with a message where they could not go on.
void run_kernel(const Kernel& kernel);

/// One thread of the running block and its stack, which threads of later blocks use again.
struct Thread {
  Stack stack;
  Context context;
  uint3 index = {};
  int number = 0;               // in the block
  const char* waits = nullptr;  // in which function
  int64_t detail = -1;          // number of the barrier
  ThreadCopies copies;
};

/// Threads that wait for the last of them.
struct Meeting {
  const char* what = nullptr;
  int arrived = 0;
  int sum = 0;     // of what they brought
  int result = 0;  // the sum of those that met last
  std::vector<Thread*> waiting;
};

struct Warp {
  Meeting meeting;
  std::array<void*, kLanes> operands = {};
  int lanes = 0;
  int ended = 0;
};

class Block {
 public:
  void run(const Kernel& kernel);

  const Kernel& kernel() const { return *kernel_; }
  const uint3& index() const { return index_; }
  unsigned char* shared() const { return shared_; }
  BulkCopies& bulk_copies() { return bulk_copies_; }
  void previous_awaited() { awaited_ = true; }
  /// One of two values, the same in every run of the test.
  bool toss();

  /// Until `count` threads have called it for barrier `number`, or, if it is 0, all that have not ended. The sum of
  /// their values.
  int meet(int number, int count, int value, const char* what);
  /// Of the lanes of a warp. True for the last; the others wait until it calls release_warp.
  bool meet_in_warp(void* operands, const char* what);
  std::span<void* const> warp_operands() const;
  void release_warp();
  /// Until wake(object).
  void wait_for(const void* object, const char* what);
  void wake(const void* object);

  [[noreturn]] void die(const std::string& what) const;

 private:
  static void run_threads();
  void run_block();
  void begin_thread(Thread& thread);
  void end_thread(Thread& thread);
  void suspend(const char* what, int64_t detail);
  void release(Meeting& meeting);
  Thread& fresh_thread();
  Context& next();
  [[noreturn]] void die_of_deadlock() const;

  const Kernel* kernel_ = nullptr;
  uint3 index_ = {};
  std::unique_ptr<unsigned char[], void (*)(void*)> shared_owner_{nullptr, std::free};
  unsigned char* shared_ = nullptr;
  bool awaited_ = false;
  uint64_t tosses_ = 0;

  int count_ = 0;    // threads of the block
  int started_ = 0;  // of them
  int ended_ = 0;
  bool downwards_ = false;  // the last thread begins first
  Context host_;
  std::vector<std::unique_ptr<Thread>> threads_;  // stacks
  std::vector<Thread*> idle_;                     // without a thread of this block
  std::array<Thread*, kMostThreads> ready_ = {};  // a ring
  unsigned ready_first_ = 0;
  unsigned ready_last_ = 0;
  std::array<Meeting, 16> barriers_;
  std::array<Warp, kMostThreads / kLanes> warps_;
  std::vector<std::pair<const void*, Thread*>> waiting_;
  BulkCopies bulk_copies_;
};

// Of the running kernel; without one, null.
extern constinit thread_local Block* current_block;
extern constinit thread_local Thread* current_thread;

}  // namespace heartmula::cuda::emulated

#define threadIdx (::heartmula::cuda::emulated::current_thread->index)
#define blockIdx (::heartmula::cuda::emulated::current_block->index())
#define blockDim (::heartmula::cuda::emulated::current_block->kernel().threads)
#define gridDim (::heartmula::cuda::emulated::current_block->kernel().blocks)
