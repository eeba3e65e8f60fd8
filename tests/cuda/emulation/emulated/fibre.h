// Stacks that take turns on one host thread.
#pragma once

#include <cstddef>

namespace heartmula::cuda::emulated {

/// Where a stack stands while another one runs.
struct Context {
  void* place = nullptr;
  void (*entry)() = nullptr;     // what it begins with
  const void* bottom = nullptr;  // of its stack; these three for AddressSanitizer
  size_t bytes = 0;
  void* fake_stack = nullptr;
};

/// Goes on in `to`; returns when something switches to `from`.
void switch_to(Context& from, Context& to);

/// A stack with a page below it that must not be touched.
class Stack {
 public:
  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  /// A context that will run `entry`, which never returns.
  Context enter(void (*entry)()) const;

 private:
  char* memory_;
};

}  // namespace heartmula::cuda::emulated
