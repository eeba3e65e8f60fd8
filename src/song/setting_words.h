// Settings that are yes or no, or one of a few words.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/names.h"
#include "song/setting_base.h"

namespace heartmula::setting_types {

/// On where the flag is given, or what heartlib takes for yes and no where it has a value.
template <typename Field>
class Flag final : public Base<Field> {
 public:
  Flag(Field field, bool takes_word) : Base<Field>(std::move(field)), takes_word_(takes_word) {}
  std::string placeholder() const override { return takes_word_ ? "BOOL" : ""; }
  bool value_is_optional() const override { return true; }
  nlohmann::json schema() const override { return {{"type", "boolean"}}; }
  nlohmann::json get(const Request& request) const override { return this->at(request); }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (!value.is_boolean()) throw user_error("{} must be true or false, not {}", where, value.dump());
    this->at(request) = value.get<bool>();
  }
  void parse(Request& request, const std::string& word, const std::string& where) const override {
    std::string lower = word;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
    const auto is_one_of = [&](std::initializer_list<const char*> words) {
      return std::find(words.begin(), words.end(), lower) != words.end();
    };
    const bool yes = is_one_of({"", "yes", "y", "true", "t", "1", "on"});
    if (!yes && !is_one_of({"no", "n", "false", "f", "0", "off"})) {
      throw user_error("{} {}: must be true or false", where, word);
    }
    this->at(request) = yes;
  }
  void check(const Request&, const std::string&, const std::string&) const override {}

 private:
  bool takes_word_;
};

/// What may be said: each word of a list, or what a regular expression takes.
struct Words {
  std::vector<std::string> list;
  std::string pattern = {};
};

/// What a pair of functions makes of a word and back; `parse` takes the flag, too, and throws Error(kUser) that begins
/// with it for a word that is none.
template <typename Field, typename Parse, typename Name>
class Word final : public Base<Field> {
 public:
  Word(Field field, Parse parse_word, Name name, Words words, std::string placeholder)
      : Base<Field>(std::move(field)),
        parse_(parse_word),
        name_(name),
        words_(std::move(words)),
        placeholder_(std::move(placeholder)) {}
  std::string placeholder() const override { return placeholder_; }
  nlohmann::json schema() const override {
    nlohmann::json schema = {{"type", "string"}};
    if (words_.pattern.empty()) {
      schema["enum"] = words_.list;
    } else {
      schema["pattern"] = words_.pattern;
    }
    return schema;
  }
  nlohmann::json get(const Request& request) const override {
    const auto& value = this->at(request);
    return is_given(value) ? nlohmann::json(name_of(value)) : nlohmann::json();
  }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (!value.is_string()) throw user_error("{} must be a string, not {}", where, value.dump());
    parse(request, value.get<std::string>(), where);
  }
  void parse(Request& request, const std::string& word, const std::string& where) const override {
    this->at(request) = parse_(where, word);
  }
  void check(const Request&, const std::string&, const std::string&) const override {}

 private:
  // An empty optional has a word of its own where `name` takes it ("auto").
  static constexpr bool kNamesNothing = std::is_invocable_v<Name, const Value<Field>&>;
  template <typename T>
  static bool is_given(const T& value) {
    return kNamesNothing || has_value(value);
  }
  template <typename T>
  std::string name_of(const T& value) const {
    if constexpr (kNamesNothing) {
      return std::string(name_(value));
    } else {
      return std::string(name_(*value));
    }
  }

  Parse parse_;
  Name name_;
  Words words_;
  std::string placeholder_;
};

/// On if it is given: `--compat`.
template <typename Field>
std::shared_ptr<const SettingType> flag(Field field) {
  return std::make_shared<Flag<Field>>(field, false);
}
/// With a word: `--lazy_load true`.
template <typename Field>
std::shared_ptr<const SettingType> boolean(Field field) {
  return std::make_shared<Flag<Field>>(field, true);
}
template <typename Field, typename Parse, typename Name>
std::shared_ptr<const SettingType> word(Field field, Parse parse, Name name, Words words,
                                        std::string placeholder = "NAME") {
  return std::make_shared<Word<Field, Parse, Name>>(field, parse, name, std::move(words), std::move(placeholder));
}

/// Of an enumeration.
template <typename Field, typename Value, size_t kCount>
std::shared_ptr<const SettingType> named(Field field, const Names<Value, kCount>& names) {
  return word(
      field, [&names](const std::string& flag, const std::string& name) { return names.parse(flag, name); },
      [&names](Value value) { return names.name(value); }, {names.words()});
}

}  // namespace heartmula::setting_types
