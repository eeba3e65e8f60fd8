#include "decode/draft_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/names.h"
#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

// Of "auto" and where nothing else was asked for; more are hardly ever right.
constexpr int64_t kMostFrames = 3;
constexpr int64_t kEarlyExitShare = 4;

constexpr Names<DrafterKind, 9> kDrafters{{{{DrafterKind::kAuto, "auto"},
                                            {DrafterKind::kNone, "none"},
                                            {DrafterKind::kBigram, "bigram"},
                                            {DrafterKind::kPrevious, "previous"},
                                            {DrafterKind::kRiders, "riders"},
                                            {DrafterKind::kNgram, "ngram"},
                                            {DrafterKind::kEarlyExit, "early_exit"},
                                            {DrafterKind::kRandom, "random"},
                                            {DrafterKind::kOracle, "oracle"}}}};

template <typename Number>
Number parse_number(const std::string& flag, std::string_view text, std::string_view digits, const char* what) {
  Number value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    throw user_error("{} {}: \"{}\" is no {}", flag, text, digits, what);
  }
  return value;
}

}  // namespace

DraftSettings DraftSettings::parse(const std::string& flag, std::string_view text) {
  if (text.find('/') != std::string_view::npos || text.ends_with(".safetensors")) {
    return {.kind = DrafterKind::kFile, .frames = {}, .file = std::string(text)};
  }
  const size_t colon = text.find(':');
  const std::string_view word = text.substr(0, colon);
  const auto* const known = std::ranges::find(kDrafters.entries, word, [](const auto& entry) { return entry.second; });
  if (known == kDrafters.entries.end()) {
    throw user_error(
        "{} {}: must be auto, none, bigram, previous, riders, ngram, early_exit:LAYERS, random, or a drafter file "
        "(*.safetensors, or a path)",
        flag, text);
  }
  DraftSettings settings{.kind = known->first, .frames = {}};
  if (colon == std::string_view::npos) return settings;
  const std::string_view number = text.substr(colon + 1);
  if (settings.kind == DrafterKind::kOracle) {
    settings.right = parse_number<double>(flag, text, number, "probability");
    if (!(settings.right >= 0 && settings.right <= 1)) throw user_error("{} {}: must be from 0 to 1", flag, text);
  } else if (settings.kind == DrafterKind::kEarlyExit) {
    settings.layers = parse_number<int64_t>(flag, text, number, "number of layers");
    if (settings.layers < 1) throw user_error("{} {}: must be 1 or more", flag, text);
  } else {
    throw user_error("{} {}: only oracle and early_exit take a number", flag, text);
  }
  return settings;
}

std::string DraftSettings::text() const {
  if (kind == DrafterKind::kFile) return file;
  std::string text = kDrafters.name(kind);
  if (kind == DrafterKind::kOracle) text += fmt::format(":{}", right);
  if (kind == DrafterKind::kEarlyExit && layers > 0) text += fmt::format(":{}", layers);
  return text;
}

int64_t DraftSettings::frames_of_pass() const {
  if (kind == DrafterKind::kNone) return 1;
  return std::max<int64_t>(2, 1 + frames.value_or(kMostFrames));
}

// "auto" is a choice of those that may pay: untrained ones, and the checkpoint's own.
std::vector<DraftSettings::Arm> DraftSettings::arms() const {
  std::vector<Arm> arms;
  if (model) {
    const bool drafts = model->config.drafts_frames();
    if (frames != 0 && drafts) arms.push_back({DrafterKind::kFile, true});
    if (frames.value_or(0) == 0) arms.push_back({DrafterKind::kFile, false});
  }
  if (kind == DrafterKind::kNone || kind == DrafterKind::kFile) return arms;
  if (kind != DrafterKind::kAuto) return {{kind}};
  if (frames && !arms.empty()) return arms;
  if (frames.value_or(0) == 0) arms.push_back({DrafterKind::kBigram});
  if (frames != 0) arms.push_back({DrafterKind::kRiders});
  return arms;
}

DraftController DraftSettings::controller() const {
  if (kind == DrafterKind::kNone) return {};
  if (frames) return DraftController::always(*frames);
  std::vector<DraftArm> choices;
  for (const Arm& arm : arms()) {
    const bool is_file = arm.kind == DrafterKind::kFile;
    const bool rides = arm.kind == DrafterKind::kRiders || arm.kind == DrafterKind::kNgram;
    const bool computes = arm.kind == DrafterKind::kEarlyExit || is_file;
    const bool rests_only = is_file && !arm.drafts_frames;
    const int64_t least = rides ? kMostFrames : (computes && !rests_only ? 1 : 0);
    choices.push_back(
        {.is_watched = !rides && !computes, .least_frames = least, .most_frames = rests_only ? 0 : kMostFrames});
  }
  return DraftController(choices, kMostFrames);
}

std::vector<std::unique_ptr<Drafter>> DraftSettings::make_drafters(const LmConfig& config) const {
  std::vector<std::unique_ptr<Drafter>> drafters;
  for (const Arm& arm : arms()) drafters.push_back(make_drafter(arm, config));
  return drafters;
}

std::unique_ptr<Drafter> DraftSettings::make_drafter(const Arm& arm, const LmConfig& config) const {
  switch (arm.kind) {
    case DrafterKind::kNone:
    case DrafterKind::kAuto:
      break;
    case DrafterKind::kBigram:
      return make_bigram_drafter();
    case DrafterKind::kPrevious:
      return make_previous_drafter();
    case DrafterKind::kRiders:
      return make_riders_drafter();
    case DrafterKind::kNgram:
      return make_ngram_drafter();
    case DrafterKind::kRandom:
      return make_random_drafter();
    case DrafterKind::kFile:
      return make_learned_drafter(model, arm.drafts_frames);
    case DrafterKind::kOracle:
      return make_oracle_drafter(song, right);
    case DrafterKind::kEarlyExit: {
      const int64_t all = config.backbone.num_layers;
      if (layers > all) throw user_error("--drafter {}: the backbone has {} layers", text(), all);
      return make_early_exit_drafter(layers > 0 ? layers : std::max<int64_t>(all / kEarlyExitShare, 1));
    }
  }
  return nullptr;
}

}  // namespace heartmula
