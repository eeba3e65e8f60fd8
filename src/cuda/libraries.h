// Libraries that are looked for at run time.
#pragma once

namespace heartmula::cuda {

/// In this order.
inline constexpr const char* kCublasLtNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

}  // namespace heartmula::cuda
