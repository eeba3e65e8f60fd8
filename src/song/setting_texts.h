// Settings that are texts, or names of files.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/input.h"
#include "song/setting_base.h"
#include "text/text_source.h"
#include "text/unicode.h"

namespace heartmula::setting_types {

/// UTF-8.
template <typename Field>
class Text : public Base<Field> {
 public:
  Text(Field field, std::string placeholder) : Base<Field>(std::move(field)), placeholder_(std::move(placeholder)) {}
  std::string placeholder() const override { return placeholder_; }
  nlohmann::json schema() const override { return {{"type", "string"}}; }
  nlohmann::json get(const Request& request) const override {
    const auto& text = this->at(request);
    return has_value(text) ? nlohmann::json(value_of(text)) : nlohmann::json();
  }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (!value.is_string()) throw user_error("{} must be a string, not {}", where, value.dump());
    this->at(request) = value.get<std::string>();
  }
  void parse(Request& request, const std::string& word, const std::string&) const override { this->at(request) = word; }
  void check(const Request& request, const std::string& where, const std::string&) const override {
    const auto& text = this->at(request);
    // JSON, and so the request beside each song, holds nothing else.
    if (has_value(text)) check_utf8(where, value_of(text));
  }

 private:
  std::string placeholder_;
};

/// What is sung or told: nothing but text.
template <typename Field>
class SongFieldText final : public Text<Field> {
 public:
  using Text<Field>::Text;
  void check(const Request& request, const std::string& where, const std::string&) const override {
    const auto& text = this->at(request);
    if (has_value(text)) check_song_text(where, value_of(text));
  }
};

/// Numbers of CPUs, as `--cpus` reads them.
constexpr const char* kCpuList = "LIST";

/// A file or folder, or a list of CPUs; stored only if there is one.
template <typename Field>
class Path final : public Text<Field> {
 public:
  using Text<Field>::Text;
  void parse(Request& request, const std::string& word, const std::string& where) const override {
    if (word.empty()) throw user_error("{}: a value is missing", where);
    this->at(request) = expand_home(word).string();
  }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    Text<Field>::set(request, value, where);
    this->at(request) = expand_home(this->at(request)).string();
  }
  bool names_files() const override { return this->placeholder() != kCpuList; }
  nlohmann::json get(const Request& request) const override {
    const std::string& path = this->at(request);
    return path.empty() ? nlohmann::json() : nlohmann::json(path);
  }
};

/// Any number of files or folders.
template <typename Field>
class Paths final : public Base<Field> {
 public:
  Paths(Field field, std::string placeholder) : Base<Field>(std::move(field)), placeholder_(std::move(placeholder)) {}
  std::string placeholder() const override { return placeholder_; }
  bool is_list() const override { return true; }
  bool names_files() const override { return true; }
  nlohmann::json schema() const override { return {{"type", "array"}, {"items", {{"type", "string"}}}}; }
  nlohmann::json get(const Request& request) const override {
    const std::vector<std::string>& paths = this->at(request);
    return paths.empty() ? nlohmann::json() : nlohmann::json(paths);
  }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    std::vector<std::string> paths;
    if (!value.is_array()) throw user_error("{} must be a list of strings, not {}", where, value.dump());
    for (const nlohmann::json& path : value) {
      if (!path.is_string()) throw user_error("{} must be a list of strings, not {}", where, value.dump());
      paths.push_back(expand_home(path.get<std::string>()).string());
    }
    this->at(request) = paths;
  }
  void parse(Request& request, const std::string& word, const std::string&) const override {
    this->at(request) = {word};
  }
  void check(const Request& request, const std::string& where, const std::string&) const override {
    for (const std::string& path : this->at(request)) check_utf8(where, path);
  }

 private:
  std::string placeholder_;
};

template <typename Field>
std::shared_ptr<const SettingType> text(Field field, std::string placeholder = "TEXT") {
  return std::make_shared<Text<Field>>(field, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> song_text(Field field, std::string placeholder = "TEXT") {
  return std::make_shared<SongFieldText<Field>>(field, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> path(Field field, std::string placeholder = "FILE") {
  return std::make_shared<Path<Field>>(field, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> paths(Field field, std::string placeholder = "FILE") {
  return std::make_shared<Paths<Field>>(field, std::move(placeholder));
}

}  // namespace heartmula::setting_types
