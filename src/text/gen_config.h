// gen_config.json: the token ids that frame a prompt and end a song.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace heartmula {

struct GenConfig {
  int32_t text_bos_id = 0;
  int32_t text_eos_id = 0;
  int32_t audio_eos_id = 0;  ///< a code from here on ends the song; the number of codes: none does
  int32_t empty_id = 0;      ///< what fills a frame's columns that have no code

  /// Throws Error(kUser) that names the field if one of the four is missing or no id.
  static GenConfig parse(std::string_view json, const std::string& name);
  static GenConfig open(const std::filesystem::path& path);
};

}  // namespace heartmula
