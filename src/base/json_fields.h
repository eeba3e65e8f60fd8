// Reading configuration from JSON: every field checked, every error with file and field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

/// Parses a JSON object of limited depth without duplicate keys. Throws Error(kUser) "NAME: not valid JSON at byte 17".
nlohmann::json parse_json_object(std::string_view text, const std::string& name);
nlohmann::json read_json_object(const std::filesystem::path& path);

/// An object of a JSON file whose fields are read one by one; errors name the file and the field.
class JsonFields {
 public:
  /// `name` is the file, `prefix` the path of `object` in it, for example "backbone.". Keeps a reference to `object`.
  JsonFields(const nlohmann::json& object, std::string name, std::string prefix = "")
      : object_(object), name_(std::move(name)), prefix_(std::move(prefix)) {}

  bool has(const char* field) const;
  /// Throws Error(kUser) if the field is missing, no integer, or outside [min, max].
  int64_t integer(const char* field, int64_t min, int64_t max) const;
  int64_t integer_or(const char* field, int64_t min, int64_t max, int64_t fallback) const;
  /// Likewise; the number must be finite.
  double number(const char* field, double min, double max) const;
  std::string text(const char* field) const;
  bool flag(const char* field) const;
  /// A list of integers, at least one.
  std::vector<int64_t> integers(const char* field, int64_t min, int64_t max) const;
  /// A list of exactly `count` integers.
  std::vector<int64_t> integers_or(const char* field, size_t count, int64_t min, int64_t max,
                                   std::vector<int64_t> fallback) const;
  /// Throws if the field is no object.
  JsonFields object(const char* field) const;
  /// Throws if the field is there and not `only`: what the program can compute.
  void require_if_there(const char* field, const nlohmann::json& only) const;
  /// One warning that lists the fields that are not in `known`, for they may mean another architecture.
  void warn_of_unknown(std::span<const std::string_view> known) const;
  /// The same of a config.json: what the transformers library writes into each of them is known, too.
  void warn_of_unknown_in_config(std::span<const std::string_view> known) const;

 private:
  const nlohmann::json& at(const char* field) const;
  std::string where(const char* field) const { return name_ + ": " + prefix_ + field; }
  int64_t checked_integer(const nlohmann::json& value, const char* field, int64_t min, int64_t max) const;

  const nlohmann::json& object_;
  std::string name_;
  std::string prefix_;
};

}  // namespace heartmula
