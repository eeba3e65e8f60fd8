// The drafters, each in a file of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "decode/draft_model.h"
#include "decode/drafter.h"

namespace heartmula {

/// Replays a song that is known: each code is right with this probability, by itself.
std::unique_ptr<Drafter> make_oracle_drafter(std::vector<Frame> song, double right);
/// Codes at random: as wrong as can be.
std::unique_ptr<Drafter> make_random_drafter();
/// The last frame again.
std::unique_ptr<Drafter> make_previous_drafter();
/// What followed the code before it in the song so far, drawn with the song's noise.
std::unique_ptr<Drafter> make_bigram_drafter();
/// Frames that the model samples after the last guesses: Jacobi iteration over frames (decoding.md 4.1).
std::unique_ptr<Drafter> make_riders_drafter();
/// Frames that followed the last one, in the song or in riders: the pool of lookahead decoding (arXiv:2402.02057).
std::unique_ptr<Drafter> make_ngram_drafter();
/// The first `layers` blocks of the backbone, and the depth decoder (LayerSkip, arXiv:2404.16710, untrained).
std::unique_ptr<Drafter> make_early_exit_drafter(int64_t layers);
/// The trained parts of a drafter file: the rest of a frame by the micro depth decoder and, with `drafts_frames`, whole
/// frames by the frame drafter or Medusa's heads.
std::unique_ptr<Drafter> make_learned_drafter(std::shared_ptr<const DraftModel> model, bool drafts_frames);

}  // namespace heartmula
