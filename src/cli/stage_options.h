// What `heartmula bench` and `heartmula plan` both take: models and the sizes of the stages.
#pragma once

#include <string>
#include <vector>

#include "bench/models.h"
#include "cli/command.h"
#include "cli/setting_flags.h"

namespace heartmula {

class StageOptions {
 public:
  void add_to(Command& command);
  /// Throws Error(kUser) for an unknown dtype.
  bench::StageChoice resolve() const;

 private:
  static std::vector<DType> parse(const char* flag, const std::vector<std::string>& names);

  SettingFlags flags_;  // of checkpoint and codec
  bench::StageChoice choice_;
  std::vector<std::string> mula_dtypes_ = {"bf16"};
  std::vector<std::string> codec_dtypes_ = {"fp32"};
  std::vector<std::string> drafters_;
};

/// After the output itself: with `json`, which must stay JSON, on standard error.
void print_comparison(const std::string& text, bool json);

}  // namespace heartmula
