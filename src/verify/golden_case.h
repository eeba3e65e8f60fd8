// A golden case: a checkpoint and what the public reference computed with it. `heartmula verify` runs the code that
// `generate` runs, with the noise that the reference drew, and compares every stage.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/settings.h"
#include "heartmula/cancel.h"
#include "tensor/safetensors.h"
#include "verify/report.h"

namespace heartmula {

struct VerifyOptions {
  DeviceWish device = {};
  int threads = 0;
  std::string cpus = {};
};

/// What will compute, for example "cpu (avx2, 2 threads)". Throws Error(kUser) if there is no such thing here.
std::string device_of(const VerifyOptions& options);

/// Throws Error(kUser) if `folder` is none, or has no golden file in it; whatever else is missing or broken is a check
/// that failed.
std::vector<Check> verify_case(const std::filesystem::path& folder, const VerifyOptions& options,
                               const CancelToken* cancel);

namespace detail {

/// The recorded values of a golden_*.safetensors, converted.
class Recording {
 public:
  explicit Recording(const std::filesystem::path& path) : file_(SafetensorsFile::open(path)) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  const std::vector<int64_t>& shape(const std::string& name) const { return tensor(name).shape; }
  std::vector<float> floats(const std::string& name) const;
  std::vector<int64_t> integers(const std::string& name) const;
  std::string text(const std::string& name) const;
  /// What stands before the first dot of each name, without repeats.
  std::vector<std::string> prefixes() const;

 private:
  const StoredTensor& tensor(const std::string& name) const;
  SafetensorsFile file_;
};

void check_text(const std::filesystem::path& folder, std::vector<Check>& checks);
void check_language_model(const std::filesystem::path& folder, const VerifyOptions& options, const CancelToken* cancel,
                          std::vector<Check>& checks);
void check_pipeline(const std::filesystem::path& folder, const VerifyOptions& options, const CancelToken* cancel,
                    std::vector<Check>& checks);
void check_codec(const std::filesystem::path& folder, const VerifyOptions& options, const CancelToken* cancel,
                 std::vector<Check>& checks);

}  // namespace detail
}  // namespace heartmula
