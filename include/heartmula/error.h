// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

#include "heartmula/export.h"

namespace heartmula {

/// Whose move it is after an error; the program turns it into its exit code.
enum class ErrorKind {
  kUser,       ///< the request or its files are wrong: the user can mend it (exit code 2)
  kFailure,    ///< the machine failed: disk full, out of memory, I/O error (exit code 1)
  kCancelled,  ///< a CancelToken was raised (exit code 130 or 143)
};

/// One line that says what is wrong, where, and what to do.
class HEARTMULA_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace heartmula
