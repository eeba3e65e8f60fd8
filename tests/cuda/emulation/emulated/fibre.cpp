#include "emulated/fibre.h"

#include <sys/mman.h>

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define HEARTMULA_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEARTMULA_ADDRESS_SANITIZER
#endif
#endif

#ifdef HEARTMULA_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

namespace heartmula::cuda::emulated {
namespace {

#ifdef HEARTMULA_SANITIZED
constexpr size_t kStackBytes = size_t{512} << 10;  // only what is touched becomes memory
#else
constexpr size_t kStackBytes = size_t{192} << 10;
#endif
constexpr size_t kGuardBytes = size_t{64} << 10;  // a page of every architecture

thread_local Context* current = nullptr;  // the one that has just been switched to

// What a context does first when it runs again: `arrived` tells where the one that left can be found.
void land(Context& here, boost::context::detail::transfer_t arrived) {
  Context& left = *static_cast<Context*>(arrived.data);
  left.place = arrived.fctx;
#ifdef HEARTMULA_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(here.fake_stack, &left.bottom, &left.bytes);
#else
  static_cast<void>(here);
#endif
}

void start(boost::context::detail::transfer_t arrived) {
  Context& here = *current;
  land(here, arrived);
  here.entry();
}

}  // namespace

void switch_to(Context& from, Context& to) {
  current = &to;
#ifdef HEARTMULA_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
#endif
  land(from, boost::context::detail::jump_fcontext(to.place, &from));
}

Stack::Stack() {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  mprotect(memory_, kGuardBytes, PROT_NONE);
}

Stack::~Stack() {
  munmap(memory_, kGuardBytes + kStackBytes);
}

Context Stack::enter(void (*entry)()) const {
  Context context;
  context.bottom = memory_ + kGuardBytes;
  context.bytes = kStackBytes;
  context.entry = entry;
  // Tops at different places of their pages, or all stacks would share a few lines of the cache.
  static std::atomic<size_t> made = 0;
  const size_t used = kStackBytes - made++ % 64 * 1088;
  context.place = boost::context::detail::make_fcontext(memory_ + kGuardBytes + used, used, start);
  return context;
}

}  // namespace heartmula::cuda::emulated
