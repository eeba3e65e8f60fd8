#include "base/json_fields.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"

namespace heartmula {
namespace {

using Event = nlohmann::json::parse_event_t;

constexpr int kMaxDepth = 64;
constexpr size_t kMaxJsonBytes = size_t{64} << 20;

}  // namespace

nlohmann::json parse_json_object(std::string_view text, const std::string& name) {
  std::vector<std::set<std::string>> keys;  // of every object that is open
  const auto check = [&](int depth, Event event, const nlohmann::json& value) {
    if (depth > kMaxDepth) throw user_error("{}: nested more than {} levels deep", name, kMaxDepth);
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      throw user_error("{}: has two entries {}", name, in_quotes(value.get_ref<const std::string&>()));
    }
    return true;
  };
  nlohmann::json parsed;
  try {
    parsed = nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::parse_error& error) {
    refuse_other_kind(std::as_bytes(std::span(text)), FileKind::kJson, name);
    if (error.byte > text.size()) {
      throw user_error("{}: not valid JSON: ends at byte {} in the middle; is it whole?", name, text.size());
    }
    throw user_error("{}: not valid JSON at byte {}", name, error.byte);
  } catch (const nlohmann::json::out_of_range&) {
    throw user_error("{}: holds a number that is too large", name);
  }
  if (!parsed.is_object()) throw user_error("{}: must hold one JSON object", name);
  return parsed;
}

nlohmann::json read_json_object(const std::filesystem::path& path) {
  return read_downloaded(path, [&path] { return parse_json_object(read_file(path, kMaxJsonBytes), path.string()); });
}

bool JsonFields::has(const char* field) const {
  return object_.contains(field);
}

const nlohmann::json& JsonFields::at(const char* field) const {
  const auto found = object_.find(field);
  if (found == object_.end()) throw user_error("{} is missing", where(field));
  return *found;
}

int64_t JsonFields::checked_integer(const nlohmann::json& value, const char* field, int64_t min, int64_t max) const {
  if (!value.is_number_integer()) throw user_error("{} must be an integer, not {}", where(field), value.dump());
  const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(max);
  if (too_large || value.get<int64_t>() < min || value.get<int64_t>() > max) {
    throw user_error("{} is {}, but must be {}", where(field), value.dump(), range_text(min, max));
  }
  return value.get<int64_t>();
}

int64_t JsonFields::integer(const char* field, int64_t min, int64_t max) const {
  return checked_integer(at(field), field, min, max);
}

int64_t JsonFields::integer_or(const char* field, int64_t min, int64_t max, int64_t fallback) const {
  return has(field) ? integer(field, min, max) : fallback;
}

double JsonFields::number(const char* field, double min, double max) const {
  const nlohmann::json& value = at(field);
  if (!value.is_number()) throw user_error("{} must be a number, not {}", where(field), value.dump());
  const double number = value.get<double>();
  if (!(number >= min && number <= max)) {
    throw user_error("{} is {}, but must be {}", where(field), value.dump(), range_text(min, max));
  }
  return number;
}

std::string JsonFields::text(const char* field) const {
  const nlohmann::json& value = at(field);
  if (!value.is_string()) throw user_error("{} must be a string, not {}", where(field), value.dump());
  return value.get<std::string>();
}

bool JsonFields::flag(const char* field) const {
  const nlohmann::json& value = at(field);
  if (!value.is_boolean()) throw user_error("{} must be true or false, not {}", where(field), value.dump());
  return value.get<bool>();
}

std::vector<int64_t> JsonFields::integers(const char* field, int64_t min, int64_t max) const {
  const nlohmann::json& value = at(field);
  if (!value.is_array() || value.empty()) {
    throw user_error("{} must be a list of integers, not {}", where(field), value.dump());
  }
  std::vector<int64_t> integers;
  for (const nlohmann::json& element : value) integers.push_back(checked_integer(element, field, min, max));
  return integers;
}

std::vector<int64_t> JsonFields::integers_or(const char* field, size_t count, int64_t min, int64_t max,
                                             std::vector<int64_t> fallback) const {
  if (!has(field)) return fallback;
  const nlohmann::json& value = at(field);
  if (!value.is_array() || value.size() != count) {
    throw user_error("{} must be a list of {} integers, not {}", where(field), count, value.dump());
  }
  std::vector<int64_t> integers;
  for (const nlohmann::json& element : value) integers.push_back(checked_integer(element, field, min, max));
  return integers;
}

JsonFields JsonFields::object(const char* field) const {
  const nlohmann::json& value = at(field);
  if (!value.is_object()) throw user_error("{} must be an object, not {}", where(field), value.dump());
  return JsonFields(value, name_, prefix_ + field + ".");
}

void JsonFields::require_if_there(const char* field, const nlohmann::json& only) const {
  if (!has(field) || at(field) == only) return;
  throw user_error("{} is {}, but this program computes only models in which it is {}", where(field), at(field).dump(),
                   only.dump());
}

void JsonFields::warn_of_unknown_in_config(std::span<const std::string_view> known) const {
  std::vector<std::string_view> all = {"architectures",        "model_type",    "dtype",   "torch_dtype",
                                       "transformers_version", "_name_or_path", "auto_map"};
  all.insert(all.end(), known.begin(), known.end());
  warn_of_unknown(all);
}

void JsonFields::warn_of_unknown(std::span<const std::string_view> known) const {
  std::string unknown;
  for (const auto& item : object_.items()) {
    if (std::ranges::find(known, item.key()) != known.end()) continue;
    unknown += (unknown.empty() ? "" : ", ") + prefix_ + item.key();
  }
  if (unknown.empty()) return;
  spdlog::warn(message("{}: {} not known to this program, and ignored: is this another architecture?", name_, unknown));
}

}  // namespace heartmula
