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

namespace {

// A preset gives way to what was asked for beside it: fewer steps than it guides, windows that are all as long.
CodecSettings fitted(CodecSettings settings) {
  const CodecSettings preset = CodecSettings::of(settings.quality);
  if (settings.flow.guidance_steps == preset.flow.guidance_steps) {
    std::erase_if(settings.flow.guidance_steps, [&](int64_t step) { return step >= settings.flow.steps; });
  }
  if (preset.short_last_window && (settings.compat || settings.order != WindowOrder::kSequential)) {
    settings.short_last_window = false;
  }
  return settings;
}

void check_fitted(const CodecSettings& settings) {
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

}  // namespace

void check_codec_settings(const CodecSettings& settings) {
  check_fitted(fitted(settings));
}

CodecSettings resolve_codec_settings(const CodecSettings& settings, const CodecConfig& config) {
  CodecSettings resolved = fitted(settings);
  check_fitted(resolved);
  if (!config.student) return resolved;
  const FlowSettings& flow = settings.flow;
  const FlowSettings untouched = CodecSettings::of(settings.quality).flow;
  const FlowSettings own = {.steps = config.student->steps.front(), .guidance = 1.0, .flow_map = true};
  const auto refuse = [&](const char* flag) {
    return user_error(
        "{}: {} is a student, which solves in its own way and without guidance: leave {} out, or use the "
        "codec that it learned from",
        flag, config.source, flag);
  };
  const auto was_given = [&](auto FlowSettings::*member) {
    return flow.*member != untouched.*member && flow.*member != own.*member;
  };
  if (was_given(&FlowSettings::solver)) throw refuse("--codec_solver");
  if (was_given(&FlowSettings::grid)) throw refuse("--codec_grid");
  if (was_given(&FlowSettings::guidance)) throw refuse("--codec_guidance_scale");
  if (was_given(&FlowSettings::guidance_steps)) throw refuse("--codec_guidance_steps");
  if (was_given(&FlowSettings::first_stack_steps)) throw refuse("--codec_first_stack_steps");
  resolved.flow = own;
  if (flow.steps == untouched.steps) return resolved;
  if (std::ranges::find(config.student->steps, flow.steps) == config.student->steps.end()) {
    throw user_error("--codec_steps is {}, but {} was trained for {}", flow.steps, config.source,
                     fmt::join(config.student->steps, ", "));
  }
  resolved.flow.steps = flow.steps;
  return resolved;
}

}  // namespace heartmula
