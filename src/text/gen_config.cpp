#include "text/gen_config.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/file_kind.h"
#include "base/json_fields.h"

namespace heartmula {

GenConfig GenConfig::parse(std::string_view json, const std::string& name) {
  const nlohmann::json document = parse_json_object(json, name);
  const JsonFields fields(document, name);
  const auto id = [&fields](const char* field) {
    return static_cast<int32_t>(fields.integer(field, 0, std::numeric_limits<int32_t>::max()));
  };
  GenConfig config;
  config.text_bos_id = id("text_bos_id");
  config.text_eos_id = id("text_eos_id");
  config.audio_eos_id = id("audio_eos_id");
  config.empty_id = id("empty_id");
  return config;
}

GenConfig GenConfig::open(const std::filesystem::path& path) {
  return read_downloaded(path, [&path] { return parse(read_file(path, size_t{1} << 20), path.string()); });
}

}  // namespace heartmula
