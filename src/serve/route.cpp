#include "serve/route.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/message.h"

namespace heartmula {
namespace {

constexpr size_t kLongestPart = 200;

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string_view take_part(std::string_view& path) {
  const size_t end = std::min(path.find('/'), path.size());
  const std::string_view part = path.substr(0, end);
  path.remove_prefix(std::min(end + 1, path.size()));
  return part;
}

void check_integer(const Parameter& parameter, const std::string& value) {
  const std::optional<int64_t> number = parse_number<int64_t>(value);
  const nlohmann::json& schema = parameter.schema;
  const int64_t least = schema.value("minimum", INT64_MIN);
  const int64_t most = schema.value("maximum", INT64_MAX);
  if (!number || *number < least || *number > most) {
    throw HttpError(
        400, message("{} is {}, but must be an integer {}", parameter.name, in_quotes(value), range_text(least, most)));
  }
}

void check_words(const Parameter& parameter, const std::string& value) {
  const nlohmann::json& schema = parameter.schema;
  if (schema.contains("enum")) {
    std::string words;
    for (const auto& word : schema["enum"]) {
      if (word == value) return;
      words += (words.empty() ? "" : ", ") + word.get<std::string>();
    }
    throw HttpError(400, message("{} is {}, but must be one of {}", parameter.name, in_quotes(value), words));
  }
  if (value.size() > schema.value("maxLength", size_t{1000})) {
    throw HttpError(400, message("{} is too long", parameter.name));
  }
}

void check_value(const Parameter& parameter, const std::string& value) {
  const std::string type = parameter.schema.value("type", "string");
  if (type == "integer") return check_integer(parameter, value);
  if (type == "boolean") {
    if (value == "true" || value == "false") return;
    throw HttpError(400, message("{} is {}, but must be true or false", parameter.name, in_quotes(value)));
  }
  check_words(parameter, value);
}

}  // namespace

std::string Call::parameter(const std::string& name, const std::string& fallback) const {
  const auto found = query.find(name);
  return found == query.end() ? fallback : found->second;
}

std::string Call::header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

Answer Answer::json(const nlohmann::json& value, int status) {
  return {.status = status, .body = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"};
}

Answer Answer::none(int status) {
  return {.status = status, .type = {}};
}

void check_query(const Route& route, const std::map<std::string, std::string>& query) {
  for (const Parameter& parameter : route.query) {
    const auto found = query.find(parameter.name);
    if (found != query.end()) {
      check_value(parameter, found->second);
    } else if (parameter.required) {
      throw HttpError(400, message("{} is missing", parameter.name));
    }
  }
}

std::optional<std::map<std::string, std::string>> match_path(std::string_view pattern, std::string_view path) {
  std::map<std::string, std::string> parts;
  while (!pattern.empty() && !path.empty()) {
    const bool is_last = pattern.find('/') == std::string_view::npos;
    if (is_last != (path.find('/') == std::string_view::npos)) return std::nullopt;
    const std::string_view wanted = take_part(pattern);
    const std::string_view part = take_part(path);
    if (wanted.starts_with('{')) {
      if (part.empty() || part.size() > kLongestPart) return std::nullopt;
      parts[std::string(wanted.substr(1, wanted.size() - 2))] = part;
    } else if (wanted != part) {
      return std::nullopt;
    }
  }
  if (!pattern.empty() || !path.empty()) return std::nullopt;
  return parts;
}

}  // namespace heartmula
