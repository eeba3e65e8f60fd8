#include "codec/settings.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"

namespace heartmula {

// What `heartmula steps` measured on the demo (docs/codec.md).
CodecSettings CodecSettings::of(CodecQuality quality) {
  CodecSettings settings{.quality = quality, .flow = {}};
  if (quality == CodecQuality::kReference) return settings;
  settings.short_last_window = true;
  settings.flow.solver = FlowSolver::kAb2;
  if (quality == CodecQuality::kBalanced) {
    settings.flow.steps = 6;
    settings.flow.guidance_steps = {0, 2, 4};
  } else {
    settings.flow.steps = 4;
    settings.flow.guidance_steps = {0, 2};
  }
  return settings;
}

void check_codec_settings(const CodecSettings& settings) {
  flow_schedule(settings.flow);
  if (settings.compat && (settings.windows != WindowScheme::kReference || settings.short_last_window)) {
    throw user_error(
        "--compat decodes as the reference does: it goes with --windows reference and without "
        "--codec_short_last_window");
  }
  if (settings.order == WindowOrder::kSequential) return;
  if (settings.compat || settings.short_last_window || settings.windows != WindowScheme::kReference) {
    throw user_error(
        "--codec_windows {}: windows that pass the flow at once are of one length: it goes with --windows reference "
        "and without --codec_short_last_window and --compat",
        kWindowOrders.name(settings.order));
  }
}

CodecSettings resolve_codec_settings(const CodecSettings& settings, const CodecConfig& config) {
  check_codec_settings(settings);
  if (!config.student) return settings;
  const FlowSettings& flow = settings.flow;
  const CodecSettings untouched = CodecSettings::of(settings.quality);
  const auto refuse = [&](const char* flag) {
    return user_error(
        "{}: {} is a student, which solves in its own way and without guidance: leave {} out, or use the "
        "codec that it learned from",
        flag, config.source, flag);
  };
  if (flow.solver != untouched.flow.solver) throw refuse("--codec_solver");
  if (flow.grid != untouched.flow.grid) throw refuse("--codec_grid");
  if (flow.guidance != untouched.flow.guidance) throw refuse("--codec_guidance_scale");
  if (flow.guidance_steps != untouched.flow.guidance_steps) throw refuse("--codec_guidance_steps");
  if (flow.first_stack_steps != untouched.flow.first_stack_steps) throw refuse("--codec_first_stack_steps");
  CodecSettings resolved = settings;
  resolved.flow = {.steps = config.student->steps.front(), .guidance = 1.0, .flow_map = true};
  if (flow.steps == untouched.flow.steps) return resolved;
  if (std::ranges::find(config.student->steps, flow.steps) == config.student->steps.end()) {
    throw user_error("--codec_steps is {}, but {} was trained for {}", flow.steps, config.source,
                     fmt::join(config.student->steps, ", "));
  }
  resolved.flow.steps = flow.steps;
  return resolved;
}

}  // namespace heartmula
