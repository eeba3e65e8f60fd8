#include "emulated/copies.h"

#include <cstring>
#include <utility>

#include "emulated/block.h"
#include "emulated/device.h"

namespace heartmula::cuda::emulated {
namespace {

/// The 64 bits of a barrier in shared memory.
struct Mbarrier {
  static constexpr uint32_t kMark = 0x6D62;  // of one that was initialised

  uint32_t arrivals : 15;  // of a phase
  uint32_t parity : 1;     // of the present phase
  uint32_t mark : 16;
  uint32_t pending : 12;  // arrivals that are missing in it
  int32_t bytes : 20;     // that were announced and have not come
};
static_assert(sizeof(Mbarrier) == sizeof(uint64_t));

Mbarrier load(const uint64_t* barrier) {
  Mbarrier state;
  std::memcpy(&state, barrier, sizeof(state));
  if (state.mark != Mbarrier::kMark) current_block->die("an mbarrier is used that was not initialised");
  return state;
}

void store(uint64_t* barrier, const Mbarrier& state) {
  std::memcpy(barrier, &state, sizeof(state));
}

}  // namespace

void perform(const Copy& copy) {
  std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
  std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, static_cast<size_t>(copy.zeros));
}

void ThreadCopies::add(const Copy& copy) {
  const auto address = reinterpret_cast<uintptr_t>(copy.to) | reinterpret_cast<uintptr_t>(copy.from);
  if (address % 16 != 0) current_block->die("copy_async needs addresses at multiples of 16 bytes");
  if (copy.bytes < 0 || copy.zeros < 0) current_block->die("copy_async copies 0 to 16 bytes");
  if (current_block->toss()) {
    perform(copy);
  } else {
    copies_.push_back(copy);
  }
}

void ThreadCopies::commit() {
  groups_.push_back(std::move(copies_));
  copies_.clear();
}

void ThreadCopies::wait(size_t left) {
  while (groups_.size() > left) {
    for (const Copy& copy : groups_.front()) perform(copy);
    groups_.pop_front();
  }
}

void ThreadCopies::clear() {
  copies_.clear();
  groups_.clear();
}

void BulkCopies::add(const Copy& copy, uint64_t* barrier) {
  const auto address = reinterpret_cast<uintptr_t>(copy.to) | reinterpret_cast<uintptr_t>(copy.from);
  if (address % 16 != 0 || copy.bytes % 16 != 0 || copy.bytes <= 0) {
    current_block->die("copy_bulk needs addresses and a number of bytes that are multiples of 16");
  }
  pending_.push_back({copy, barrier});
  if (current_block->toss()) finish();
}

void BulkCopies::finish() {
  for (const Pending& pending : std::exchange(pending_, {})) {
    perform(pending.copy);
    update_mbarrier(pending.barrier, 0, -pending.copy.bytes);
  }
}

void init_mbarrier(uint64_t* barrier, int arrivals) {
  if (capability() < 90) current_block->die("mbarriers for bulk copies need compute capability 9.0");
  if (arrivals <= 0 || arrivals > kMostThreads) current_block->die("an mbarrier expects 1 to 1024 arrivals");
  Mbarrier state = {};
  state.mark = Mbarrier::kMark;
  state.arrivals = static_cast<uint32_t>(arrivals) & 0x7FFF;
  state.pending = static_cast<uint32_t>(arrivals) & 0xFFF;
  store(barrier, state);
}

void update_mbarrier(uint64_t* barrier, int arrivals, int bytes) {
  Mbarrier state = load(barrier);
  const int pending = static_cast<int>(state.pending) - arrivals;
  const int announced = state.bytes + bytes;
  if (pending < 0) current_block->die("an mbarrier has more arrivals in a phase than it was initialised for");
  if (announced >= (1 << 19) || announced <= -(1 << 19)) current_block->die("an mbarrier counts less than 512 KB");
  const bool over = pending == 0 && announced == 0;
  if (over) state.parity ^= 1U;
  state.pending = static_cast<uint32_t>(over ? static_cast<int>(state.arrivals) : pending) & 0xFFF;
  state.bytes = announced;
  store(barrier, state);
  if (over) current_block->wake(barrier);
}

void wait_mbarrier(uint64_t* barrier, int parity) {
  while (load(barrier).parity == (static_cast<uint32_t>(parity) & 1U)) {
    current_block->wait_for(barrier, "wait_mbarrier");
  }
}

}  // namespace heartmula::cuda::emulated
