// What `heartmula bench` and `heartmula plan` both take: models and the sizes of the stages.
#pragma once

#include <string>
#include <vector>

#include "bench/models.h"

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace heartmula {

struct StageOptions {
  bench::ModelChoice models;
  std::vector<std::string> mula_dtypes = {"bf16"};
  std::vector<std::string> codec_dtypes = {"fp32"};
  std::vector<int64_t> songs = {1, 4};
  int64_t context = 512;
  int64_t prompt = 400;

  void add_to(CLI::App& command);
  /// Into bench::Options or bench::PlanOptions. Throws Error(kUser) for an unknown dtype.
  template <typename Options>
  void copy_to(Options& options) const {
    options.models = models;
    options.mula_dtypes = parse("--mula_dtype", mula_dtypes);
    options.codec_dtypes = parse("--codec_dtype", codec_dtypes);
    options.songs = songs;
    options.context = context;
    options.prompt = prompt;
  }

 private:
  static std::vector<DType> parse(const char* flag, const std::vector<std::string>& names);
};

}  // namespace heartmula
