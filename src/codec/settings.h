// How the codec works, as it is asked for: solver and windows, and presets of both.
#pragma once

#include <cstdint>

#include "codec/config.h"
#include "codec/flow_schedule.h"
#include "codec/windows.h"

namespace heartmula {

/// Sets of settings that people may want, by name.
enum class CodecQuality : uint8_t {
  kReference,  // as the reference: 10 Euler steps, all guided
  kBalanced,   // as near to the exact solution with less than half of the work
  kFast,       // a little rougher, with less than a third
};

inline constexpr Names<CodecQuality, 3> kCodecQualities = {
    {{{CodecQuality::kReference, "reference"}, {CodecQuality::kBalanced, "balanced"}, {CodecQuality::kFast, "fast"}}}};

struct CodecSettings {
  CodecQuality quality = CodecQuality::kReference;  // what the settings below were before others were given
  FlowSettings flow;
  WindowScheme windows = WindowScheme::kReference;
  WindowOrder order = WindowOrder::kSequential;
  bool short_last_window = false;  // the last window has no more codes than the song
  bool compat = false;             // join windows, and lose the end of some songs, as the reference does (windows.h)

  /// Of a quality, but for windows and compat.
  static CodecSettings of(CodecQuality quality);
  bool operator==(const CodecSettings&) const = default;
};

/// Throws Error(kUser) if settings do not go together. A preset's steps of guidance beyond `flow.steps` and its short
/// last window beside `compat` or parallel windows give way.
void check_codec_settings(const CodecSettings& settings);
/// What the settings come to with this codec: without what gives way, and of a student its own solver, without
/// guidance, in as many steps as were asked for; settings that it does not know are an Error(kUser). Resolved ones stay
/// as they are.
CodecSettings resolve_codec_settings(const CodecSettings& settings, const CodecConfig& config);

}  // namespace heartmula
