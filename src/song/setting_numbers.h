// Settings that are numbers.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "song/setting_base.h"

namespace heartmula::setting_types {

inline constexpr int64_t kMaxInteger = int64_t{1} << 40;

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
class Integer final : public Base<Field> {
 public:
  Integer(Field field, int64_t min, int64_t max) : Base<Field>(std::move(field)), min_(min), max_(max) {}
  std::string placeholder() const override { return "N"; }
  nlohmann::json schema() const override { return {{"type", "integer"}, {"minimum", min_}, {"maximum", max_}}; }
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
  nlohmann::json schema() const override { return {{"type", "number"}, {"minimum", min_}, {"maximum", max_}}; }
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

/// From 0 to 2^64 - 1; -1 is none.
template <typename Field>
class Seed final : public Base<Field> {
 public:
  using Base<Field>::Base;
  std::string placeholder() const override { return "N"; }
  nlohmann::json schema() const override { return {{"type", "integer"}, {"minimum", -1}, {"maximum", UINT64_MAX}}; }
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

template <typename Field>
std::shared_ptr<const SettingType> integer(Field field, int64_t min, int64_t max = kMaxInteger) {
  return std::make_shared<Integer<Field>>(field, min, max);
}
template <typename Field>
std::shared_ptr<const SettingType> number(Field field, double min, double max) {
  return std::make_shared<Number<Field>>(field, min, max);
}
template <typename Field>
std::shared_ptr<const SettingType> seed(Field field) {
  return std::make_shared<Seed<Field>>(field);
}

}  // namespace heartmula::setting_types
