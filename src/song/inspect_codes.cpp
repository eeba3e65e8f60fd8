#include "song/inspect_codes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "song/codes_file.h"
#include "tensor/safetensors.h"

namespace heartmula {

bool holds_codes(const SafetensorsFile& file) {
  return file.tensors().size() == 1 && file.find("codes") != nullptr;
}

nlohmann::json inspect_codes(const SafetensorsFile& file) {
  const Codes codes = codes_in(file);
  const auto frames = static_cast<int64_t>(codes.frames.size());
  nlohmann::json json = {{"kind", "codes"},
                         {"path", file.name()},
                         {"frames", frames},
                         {"duration_s", static_cast<double>(frames * kFrameMs) * 1e-3}};
  if (!codes.origin.request_json.empty()) {
    json["request"] = nlohmann::json::parse(codes.origin.request_json, nullptr, false);
    if (json["request"].is_discarded()) throw user_error("{}: the request in it is not JSON", file.name());
  }
  if (!codes.origin.language_model.empty()) {
    json["fingerprints"] = {{"language_model", codes.origin.language_model}, {"codec", codes.origin.codec}};
  }
  return json;
}

std::string describe_codes(const nlohmann::json& inspection) {
  std::string text = fmt::format("codes {}: {} frames, {:.2f} s\n", inspection["path"].get<std::string>(),
                                 inspection["frames"].get<int64_t>(), inspection["duration_s"].get<double>());
  if (inspection.contains("request")) text += "request: " + inspection["request"].dump(2) + "\n";
  return text;
}

}  // namespace heartmula
