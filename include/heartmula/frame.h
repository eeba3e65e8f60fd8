// The unit of music that the language model makes and the codec takes.
#pragma once

#include <array>
#include <cstdint>

namespace heartmula {

/// Codes a frame holds: fixed by the codes file, the sampler's counters and the codec alike.
inline constexpr int64_t kCodebooks = 8;
/// Milliseconds of music a frame stands for: 12.5 frames a second.
inline constexpr int64_t kFrameMs = 80;
/// Samples a second, of each of two channels.
inline constexpr int64_t kSampleRate = 48000;

/// One code of each codebook.
using Frame = std::array<int32_t, kCodebooks>;

/// Why a song ended: the model said so, or it was as long as was asked for.
enum class StopReason { kEos, kLength };

}  // namespace heartmula
