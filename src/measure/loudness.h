// How loud a piece sounds.
#pragma once

#include "audio/audio_reader.h"

namespace heartmula {

/// Integrated loudness in LUFS with both gates (ITU-R BS.1770-4). Minus infinity of what is shorter than 0.4 s or
/// nowhere louder than -70 LUFS. A mono piece counts as one channel, so it is 3 dB below the same on two.
double integrated_loudness(const Audio& audio);

}  // namespace heartmula
