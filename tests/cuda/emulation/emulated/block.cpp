#include "emulated/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace heartmula::cuda::emulated {

constinit thread_local Block* current_block = nullptr;
constinit thread_local Thread* current_thread = nullptr;

namespace {

constexpr size_t kSharedAlignment = 128;
constexpr int kPoison = 0xFF;  // four or two of them are a NaN

}  // namespace

void run_kernel(const Kernel& kernel) {
  static thread_local Block block;
  block.run(kernel);
}

void Block::run(const Kernel& kernel) {
  kernel_ = &kernel;
  current_block = this;
  if (kernel.shared_bytes > 0) {  // of its exact size, so that AddressSanitizer sees what is beyond
    void* memory = nullptr;
    if (posix_memalign(&memory, kSharedAlignment, kernel.shared_bytes) != 0) throw std::bad_alloc();
    shared_owner_.reset(static_cast<unsigned char*>(memory));
  }
  shared_ = shared_owner_.get();
  const dim3& grid = kernel.blocks;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  const bool backwards = toss();
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t number = backwards ? blocks - 1 - i : i;
    index_ = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
              static_cast<unsigned>(number / grid.x / grid.y)};
    run_block();
  }
  shared_owner_.reset();
  shared_ = nullptr;
  current_block = nullptr;
  current_thread = nullptr;
  kernel_ = nullptr;
}

void Block::run_block() {
  if (shared_) std::memset(shared_, kPoison, kernel_->shared_bytes);
  const dim3& size = kernel_->threads;
  count_ = static_cast<int>(size.x * size.y * size.z);
  started_ = 0;
  ended_ = 0;
  awaited_ = false;
  downwards_ = toss();
  for (int first = 0; first < count_; first += kLanes) {
    Warp& warp = warps_[static_cast<size_t>(first / kLanes)];
    warp.lanes = std::min(kLanes, count_ - first);
    warp.ended = 0;
  }
  switch_to(host_, next());  // and back when the last thread has ended

  if (kernel_->must_wait && !awaited_) die("no thread has called wait_for_previous");
  if (!bulk_copies_.empty()) die("all threads have ended, but a copy_bulk is under way that nobody waits for");
}

bool Block::toss() {
  tosses_ = tosses_ * 6364136223846793005U + 1442695040888963407U;  // Knuth's generator
  return (tosses_ >> 63) != 0;
}

// ---- threads

Thread& Block::fresh_thread() {
  if (idle_.empty()) {
    threads_.push_back(std::make_unique<Thread>());
    Thread& thread = *threads_.back();
    thread.context = thread.stack.enter(&Block::run_threads);
    return thread;
  }
  Thread& thread = *idle_.back();
  idle_.pop_back();
  return thread;
}

void Block::begin_thread(Thread& thread) {
  thread.number = downwards_ ? count_ - 1 - started_ : started_;
  ++started_;
  const auto number = static_cast<unsigned>(thread.number);
  const dim3& size = kernel_->threads;
  thread.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

// A stack that is new or lies idle for a thread that begins, else the thread that has been ready longest, else, at the
// end, the host.
Context& Block::next() {
  if (started_ == count_ && ready_first_ == ready_last_ && ended_ < count_) bulk_copies_.finish();
  if (started_ < count_) {
    current_thread = &fresh_thread();
    begin_thread(*current_thread);
  } else if (ready_first_ != ready_last_) {
    current_thread = ready_[ready_first_++ % kMostThreads];
  } else if (ended_ == count_) {
    return host_;
  } else {
    die_of_deadlock();
  }
  return current_thread->context;
}

// What a stack does: one thread after another, as long as any has not begun.
void Block::run_threads() {
  for (;;) {
    Block& block = *current_block;
    Thread& thread = *current_thread;
    block.kernel_->body();
    block.end_thread(thread);
    if (block.started_ < block.count_) {
      block.begin_thread(thread);
    } else {
      block.idle_.push_back(&thread);
      switch_to(thread.context, block.next());
    }
  }
}

void Block::end_thread(Thread& thread) {
  ++ended_;
  thread.copies.clear();
  Warp& warp = warps_[static_cast<size_t>(thread.number / kLanes)];
  ++warp.ended;
  if (warp.meeting.arrived > 0)
    die(fmt::format("a lane of a warp has ended while others wait in {}", warp.meeting.what));
  Meeting& all = barriers_[0];
  if (all.arrived > 0 && all.arrived == count_ - ended_) release(all);
}

void Block::suspend(const char* what, int64_t detail) {
  Thread& thread = *current_thread;
  thread.waits = what;
  thread.detail = detail;
  switch_to(thread.context, next());
  thread.waits = nullptr;
}

// ---- where they wait

void Block::release(Meeting& meeting) {
  meeting.result = meeting.sum;
  meeting.sum = 0;
  meeting.arrived = 0;
  if (toss()) std::reverse(meeting.waiting.begin(), meeting.waiting.end());
  for (Thread* thread : meeting.waiting) ready_[ready_last_++ % kMostThreads] = thread;
  meeting.waiting.clear();
}

int Block::meet(int number, int count, int value, const char* what) {
  if (number < 0 || number > 15) die(fmt::format("{}: there is no barrier {}", what, number));
  if (count % kLanes != 0) die(fmt::format("{}: {} threads are not whole warps", what, count));
  Meeting& meeting = barriers_[static_cast<size_t>(number)];
  meeting.sum += value;
  ++meeting.arrived;
  if (meeting.arrived == (number == 0 ? count_ - ended_ : count)) {
    release(meeting);
  } else {
    meeting.waiting.push_back(current_thread);
    suspend(what, number);
  }
  return meeting.result;
}

bool Block::meet_in_warp(void* operands, const char* what) {
  Warp& warp = warps_[static_cast<size_t>(current_thread->number / kLanes)];
  Meeting& meeting = warp.meeting;
  if (warp.ended > 0) die(fmt::format("{} is called after a lane of the warp has ended", what));
  if (meeting.arrived == 0) {
    meeting.what = what;
  } else if (meeting.what != what && std::strcmp(meeting.what, what) != 0) {
    die(fmt::format("lanes of one warp are in {} and in {}", meeting.what, what));
  }
  warp.operands[static_cast<size_t>(current_thread->number % kLanes)] = operands;
  if (++meeting.arrived == warp.lanes) return true;
  meeting.waiting.push_back(current_thread);
  suspend(what, -1);
  return false;
}

std::span<void* const> Block::warp_operands() const {
  const Warp& warp = warps_[static_cast<size_t>(current_thread->number / kLanes)];
  return {warp.operands.data(), static_cast<size_t>(warp.lanes)};
}

void Block::release_warp() {
  release(warps_[static_cast<size_t>(current_thread->number / kLanes)].meeting);
}

void Block::wait_for(const void* object, const char* what) {
  waiting_.emplace_back(object, current_thread);
  suspend(what, -1);
}

void Block::wake(const void* object) {
  std::erase_if(waiting_, [&](const auto& waiting) {
    if (waiting.first != object) return false;
    ready_[ready_last_++ % kMostThreads] = waiting.second;
    return true;
  });
}

// ---- errors

void Block::die(const std::string& what) const {
  std::fprintf(stderr, "emulated GPU: kernel launched at %s:%d, block (%u, %u, %u), thread %d: %s\n", kernel_->file,
               kernel_->line, index_.x, index_.y, index_.z, current_thread ? current_thread->number : -1, what.c_str());
  std::abort();
}

void Block::die_of_deadlock() const {
  std::map<std::string, std::vector<int>> waiting;
  for (const auto& thread : threads_) {
    if (!thread->waits) continue;
    waiting[thread->detail < 0 ? thread->waits : fmt::format("{} (barrier {})", thread->waits, thread->detail)]
        .push_back(thread->number);
  }
  std::string text = fmt::format("deadlock; of {} threads {} have ended", count_, ended_);
  for (const auto& [where, numbers] : waiting) {
    const auto [first, last] = std::minmax_element(numbers.begin(), numbers.end());
    text += fmt::format("; {} of the threads {} to {} wait in {}", numbers.size(), *first, *last, where);
  }
  die(text);
}

}  // namespace heartmula::cuda::emulated
