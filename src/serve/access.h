// Who may call: keys of a file, and sessions of browsers that have shown one.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/route.h"

namespace heartmula {

/// Two texts are compared in a time that depends on their lengths alone.
bool same_secret(std::string_view a, std::string_view b);

class Access {
 public:
  /// Nobody needs a key.
  Access() = default;
  /// A line a key: "NAME KEY", or the key alone, whose name is "key-1" for the first line and so on; "#" begins a
  /// comment. Throws Error(kUser) that names file and line: no keys, one shorter than 16 characters, a name twice.
  explicit Access(const std::filesystem::path& file);

  bool needs_key() const { return !keys_.empty(); }
  /// The name of the key that the call shows (a bearer token, or the cookie of a session); nothing if it shows none.
  std::optional<std::string> owner_of(const Call& call) const;
  /// The name of a key; nothing if it is none.
  std::optional<std::string> name_of(std::string_view key) const;
  /// A session's cookie, as Set-Cookie wants it; with an empty name one that ends the session.
  std::string cookie(const std::string& name, int64_t now_s) const;

 private:
  struct Key {
    std::string name;
    std::string key;
  };
  std::string signature(std::string_view session) const;
  std::optional<std::string> owner_of_session(std::string_view session, int64_t now_s) const;

  std::vector<Key> keys_;
  std::string secret_;  // of the signatures: who has the same keys knows the same sessions
};

}  // namespace heartmula
