// What libraries print on standard error by themselves.
#pragma once

#include <mutex>
#include <string>

namespace heartmula {

/// Until end(), nothing that is written to the descriptor of standard error is seen, whoever writes. There is one at a
/// time; others wait as long as it lives, so that after end() one's own lines do not get into theirs. Captures nothing
/// in a program with sanitizers, whose reports must be seen.
class CapturedStderr {
 public:
  CapturedStderr();
  ~CapturedStderr();
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;

  /// What was written; of much only the beginning.
  std::string end();

 private:
  void restore();

  std::unique_lock<std::mutex> turn_;
  int kept_ = -1;     // what standard error was
  int instead_ = -1;  // a file in memory
};

}  // namespace heartmula
