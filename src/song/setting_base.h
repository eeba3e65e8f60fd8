// What all kinds of settings share. Each is a template on how a Request's field is reached:
// field(&Request::song, &SongSettings::topk).
#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "song/settings.h"

namespace heartmula {

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

}  // namespace setting_types
}  // namespace heartmula
