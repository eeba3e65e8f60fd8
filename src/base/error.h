// Errors with formatted messages: throw user_error("{}: no such file", path); whatever they quote is made harmless.
#pragma once

#include <utility>

#include "base/message.h"
#include "heartmula/error.h"

namespace heartmula {

template <typename... Args>
Error user_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::kUser, message(format, std::forward<Args>(args)...));
}

template <typename... Args>
Error failure(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::kFailure, message(format, std::forward<Args>(args)...));
}

}  // namespace heartmula
