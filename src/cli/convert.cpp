// heartmula convert: a checkpoint packed for this machine, which opens at once.
#include "checkpoint/convert.h"

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "song/request.h"

namespace heartmula {

void add_convert(CLI::App& app, Run& run) {
  struct Options {
    std::string model_path;
    std::string save_path;
    std::string version = "3B";
    std::string mula_dtype = "bfloat16";
    std::string codec_dtype = "float32";
    int threads = 0;
    std::string progress = "auto";
  };
  CLI::App* command = app.add_subcommand("convert", "Pack a checkpoint for this machine, so that it opens at once");
  auto options = std::make_shared<Options>();
  command->add_option(both_spellings("--model_path"), options->model_path, "Folder with the checkpoint")->required();
  command->add_option(both_spellings("--save_path"), options->save_path, "The new folder")->required();
  command->add_option("--version", options->version, "Size of the language model: HeartMuLa-oss-VERSION (3B)");
  command->add_option(both_spellings("--mula_dtype"), options->mula_dtype,
                      "Weights of the language model: bfloat16 (bf16) or float32 (fp32) (bfloat16)");
  command->add_option(both_spellings("--codec_dtype"), options->codec_dtype,
                      "Weights of the codec: float32 (fp32) or bfloat16 (bf16) (float32)");
  command->add_option("--threads", options->threads, "Threads; by default as many as the process may use")
      ->check(CLI::Range(0, 1024));
  command->add_option("--progress", options->progress, "auto, bar, lines, json or none, on standard error (auto)");
  command->callback([options, &run] {
    run = [options] {
      watch_signals();
      ProgressReporter reporter(parse_progress_mode(options->progress));
      const ModelOptions model = {
          .checkpoint = {options->model_path, options->version, parse_weight_dtype("mula_dtype", options->mula_dtype),
                         parse_weight_dtype("codec_dtype", options->codec_dtype)},
          .machine = {.threads = options->threads}};
      Converted converted;
      try {
        converted = convert_checkpoint(
            model, options->save_path,
            [&](std::string_view stage, int64_t done, int64_t total, double seconds) {
              reporter.report(stage, done, total, seconds);
            },
            &interrupt_token());
      } catch (...) {
        reporter.finish();
        throw;
      }
      reporter.finish();
      if (reporter.mode() != ProgressMode::kNone && reporter.mode() != ProgressMode::kJson) {
        std::fprintf(stderr, "%s: %.3f GB of packed weights in %.1f s\n", options->save_path.c_str(),
                     static_cast<double>(converted.bytes) * 1e-9, converted.seconds);
      }
      return 0;
    };
  });
}

}  // namespace heartmula
