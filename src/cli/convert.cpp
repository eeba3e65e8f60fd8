// heartmula convert: a checkpoint packed for this machine, which opens at once.
#include "checkpoint/convert.h"

#include "base/error.h"
#include "base/input.h"
#include "base/message.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/setting_flags.h"

namespace heartmula {

void add_convert(CLI::App& app, Run& run) {
  struct Options {
    SettingFlags flags;
    std::string save_path;
  };
  Command command(app, "convert", "Pack a checkpoint for this machine, so that it opens at once");
  auto options = std::make_shared<Options>();
  options->flags.add_to(command.app(), kConvert);
  command.option(both_spellings("--save_path"), options->save_path, "The new folder").required();
  command.runs(run, [options] {
    watch_signals();
    Request request;
    options->flags.apply(request);
    check_settings(request);
    if (request.machine.device.kind == DeviceWish::Kind::kCuda) {
      throw user_error(
          "--device {}: convert packs for CPUs alone so far; a card needs no packed checkpoint, and packs the stock "
          "one "
          "as it loads",
          device_name(request.machine.device));
    }
    request.machine.device = {.kind = DeviceWish::Kind::kCpu};
    ProgressReporter reporter(parse_progress_mode(request.run.progress));
    const ModelOptions model = {.checkpoint = request.checkpoint, .machine = request.machine};
    Converted converted;
    try {
      converted = convert_checkpoint(
          model, expand_home(options->save_path),
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
      std::fprintf(stderr, "%s: %.3f GB of packed weights in %.1f s\n", escaped(options->save_path).c_str(),
                   static_cast<double>(converted.bytes) * 1e-9, converted.seconds);
    }
    return 0;
  });
}

}  // namespace heartmula
