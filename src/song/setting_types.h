// The kinds of values that settings have.
//
// Each is a template on how a Request's field is reached: field(&Request::song, &SongSettings::topk).
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/input.h"
#include "song/settings.h"
#include "text/text_source.h"
#include "text/unicode.h"

namespace heartmula {

inline constexpr int64_t kMaxInteger = int64_t{1} << 40;

/// Reaches a field of a field of ... a Request, for reading and for writing.
template <typename... Members>
auto field(Members... members) {
  return [members...](auto& request) -> auto& {
    return (request.*....*members);
  };
}

namespace setting_types {

template <typename Field>
using Value = std::decay_t<std::invoke_result_t<Field, Request&>>;

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <typename T>
bool has_value(const T& value) {
  if constexpr (IsOptional<T>::value) return value.has_value();
  return true;
}
template <typename T>
const auto& value_of(const T& value) {
  if constexpr (IsOptional<T>::value) {
    return *value;
  } else {
    return value;
  }
}

/// "0,8" was meant as 0.8.
inline std::string comma_hint(const std::string& word) {
  std::string point = word;
  std::replace(point.begin(), point.end(), ',', '.');
  double number = 0;
  const auto [end, error] = std::from_chars(point.data(), point.data() + point.size(), number);
  const bool is_number = point != word && error == std::errc() && end == point.data() + point.size();
  return is_number ? fmt::format("; write {}, with a point", point) : std::string();
}

template <typename Field>
class Base : public SettingType {
 public:
  explicit Base(Field field) : field_(std::move(field)) {}

 protected:
  const Value<Field>& at(const Request& request) const { return field_(request); }
  Value<Field>& at(Request& request) const { return field_(request); }

 private:
  Field field_;
};

/// UTF-8.
template <typename Field>
class Text : public Base<Field> {
 public:
  Text(Field field, std::string placeholder) : Base<Field>(std::move(field)), placeholder_(std::move(placeholder)) {}
  std::string placeholder() const override { return placeholder_; }
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
class SongText final : public Text<Field> {
 public:
  using Text<Field>::Text;
  void check(const Request& request, const std::string& where, const std::string&) const override {
    const auto& text = this->at(request);
    if (has_value(text)) check_song_text(where, value_of(text));
  }
};

/// A file or folder; stored only if there is one.
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
  bool names_files() const override { return true; }
  nlohmann::json get(const Request& request) const override {
    const std::string& path = this->at(request);
    return path.empty() ? nlohmann::json() : nlohmann::json(path);
  }
};

template <typename Field>
class Integer final : public Base<Field> {
 public:
  Integer(Field field, int64_t min, int64_t max) : Base<Field>(std::move(field)), min_(min), max_(max) {}
  std::string placeholder() const override { return "N"; }
  nlohmann::json get(const Request& request) const override {
    const auto& value = this->at(request);
    return has_value(value) ? nlohmann::json(value_of(value)) : nlohmann::json();
  }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (!value.is_number_integer()) throw user_error("{} must be an integer, not {}", where, value.dump());
    const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(max_);
    if (too_large) out_of_range(value.dump(), where);
    assign(request, value.get<int64_t>(), where);
  }
  void parse(Request& request, const std::string& word, const std::string& where) const override {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error == std::errc::result_out_of_range) out_of_range(word, where);
    if (error != std::errc() || end != word.data() + word.size()) {
      throw user_error("{} {}: must be an integer", where, word);
    }
    assign(request, number, where);
  }
  void check(const Request& request, const std::string& where, const std::string& hint) const override {
    const auto& value = this->at(request);
    if (!has_value(value)) return;
    const auto number = static_cast<int64_t>(value_of(value));
    if (number < min_ || number > max_) {
      throw user_error("{} is {}, but must be {}{}", where, number, range_text(min_, max_), hint);
    }
  }

 private:
  [[noreturn]] void out_of_range(const std::string& value, const std::string& where) const {
    throw user_error("{} is {}, but must be {}", where, value, range_text(min_, max_));
  }
  void assign(Request& request, int64_t number, const std::string& where) const {
    auto& target = this->at(request);
    using Stored = std::decay_t<decltype(value_of(target))>;
    // check() speaks of the range; what the field cannot hold would reach it as another number.
    if (!std::in_range<Stored>(number)) out_of_range(fmt::format("{}", number), where);
    target = static_cast<Stored>(number);
  }

  int64_t min_;
  int64_t max_;
};

template <typename Field>
class Number final : public Base<Field> {
 public:
  Number(Field field, double min, double max) : Base<Field>(std::move(field)), min_(min), max_(max) {}
  std::string placeholder() const override { return "X"; }
  nlohmann::json get(const Request& request) const override { return this->at(request); }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (!value.is_number()) throw user_error("{} must be a number, not {}", where, value.dump());
    this->at(request) = value.get<double>();
  }
  void parse(Request& request, const std::string& word, const std::string& where) const override {
    double number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error == std::errc::result_out_of_range) {
      throw user_error("{} is {}, but must be {}", where, word, range_text(min_, max_));
    }
    if (error != std::errc() || end != word.data() + word.size()) {
      throw user_error("{} {}: must be a number{}", where, word, comma_hint(word));
    }
    this->at(request) = number;
  }
  void check(const Request& request, const std::string& where, const std::string& hint) const override {
    const double number = this->at(request);
    if (!(number >= min_ && number <= max_)) {
      throw user_error("{} is {}, but must be {}{}", where, number, range_text(min_, max_), hint);
    }
  }

 private:
  double min_;
  double max_;
};

/// On where the flag is given, or what heartlib takes for yes and no where it has a value.
template <typename Field>
class Flag final : public Base<Field> {
 public:
  Flag(Field field, bool takes_word) : Base<Field>(std::move(field)), takes_word_(takes_word) {}
  std::string placeholder() const override { return takes_word_ ? "BOOL" : ""; }
  bool value_is_optional() const override { return true; }
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

/// What a pair of functions makes of a word and back; `parse` takes the flag, too, and throws Error(kUser) that begins
/// with it for a word that is none.
template <typename Field, typename Parse, typename Name>
class Word final : public Base<Field> {
 public:
  Word(Field field, Parse parse_word, Name name, std::string placeholder)
      : Base<Field>(std::move(field)), parse_(parse_word), name_(name), placeholder_(std::move(placeholder)) {}
  std::string placeholder() const override { return placeholder_; }
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
  std::string placeholder_;
};

/// From 0 to 2^64 - 1; -1 is none.
template <typename Field>
class Seed final : public Base<Field> {
 public:
  using Base<Field>::Base;
  std::string placeholder() const override { return "N"; }
  nlohmann::json get(const Request& request) const override {
    const std::optional<uint64_t>& seed = this->at(request);
    return seed ? nlohmann::json(*seed) : nlohmann::json();
  }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (value.is_number_integer()) return parse(request, value.dump(), where);
    throw user_error("{} must be an integer from 0 to 2^64 - 1, or -1 for a random one, not {}", where, value.dump());
  }
  void parse(Request& request, const std::string& word, const std::string& where) const override {
    std::optional<uint64_t>& seed = this->at(request);
    seed.reset();
    if (word == "-1") return;
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size()) {
      throw user_error("{} {}: must be an integer from 0 to 2^64 - 1, or -1 for a random one", where, word);
    }
    seed = number;
  }
  void check(const Request&, const std::string&, const std::string&) const override {}
};

/// Any number of files or folders.
template <typename Field>
class Paths final : public Base<Field> {
 public:
  Paths(Field field, std::string placeholder) : Base<Field>(std::move(field)), placeholder_(std::move(placeholder)) {}
  std::string placeholder() const override { return placeholder_; }
  bool is_list() const override { return true; }
  bool names_files() const override { return true; }
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
  return std::make_shared<SongText<Field>>(field, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> path(Field field, std::string placeholder = "FILE") {
  return std::make_shared<Path<Field>>(field, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> paths(Field field, std::string placeholder = "FILE") {
  return std::make_shared<Paths<Field>>(field, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> integer(Field field, int64_t min, int64_t max = kMaxInteger) {
  return std::make_shared<Integer<Field>>(field, min, max);
}
template <typename Field>
std::shared_ptr<const SettingType> number(Field field, double min, double max) {
  return std::make_shared<Number<Field>>(field, min, max);
}
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
std::shared_ptr<const SettingType> word(Field field, Parse parse, Name name, std::string placeholder = "NAME") {
  return std::make_shared<Word<Field, Parse, Name>>(field, parse, name, std::move(placeholder));
}
template <typename Field>
std::shared_ptr<const SettingType> seed(Field field) {
  return std::make_shared<Seed<Field>>(field);
}

}  // namespace setting_types
}  // namespace heartmula
