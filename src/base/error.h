// Errors with formatted messages: throw user_error("{}: no such file", path);
#pragma once

#include <fmt/format.h>

#include <utility>

#include "heartmula/error.h"

namespace heartmula {

template <typename... Args>
Error user_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::kUser, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
Error failure(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ErrorKind::kFailure, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace heartmula
