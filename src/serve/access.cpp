#include "serve/access.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <sstream>

#include "base/error.h"
#include "base/file.h"

namespace heartmula {
namespace {

constexpr size_t kShortestKey = 16;
constexpr size_t kLargestFile = size_t{1} << 20;
constexpr int64_t kSessionSeconds = 30 * 24 * 3600;
constexpr std::string_view kCookie = "heartmula_session";
constexpr std::string_view kBearer = "Bearer ";

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string hex(const unsigned char* bytes, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

// The value of our cookie in "a=1; heartmula_session=...".
std::string_view session_of(std::string_view cookies) {
  while (!cookies.empty()) {
    const size_t end = std::min(cookies.find(';'), cookies.size());
    std::string_view cookie = cookies.substr(0, end);
    cookies.remove_prefix(std::min(end + 1, cookies.size()));
    while (cookie.starts_with(' ')) cookie.remove_prefix(1);
    if (cookie.starts_with(kCookie) && cookie.substr(kCookie.size()).starts_with('=')) {
      return cookie.substr(kCookie.size() + 1);
    }
  }
  return {};
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

}  // namespace

bool same_secret(std::string_view a, std::string_view b) {
  volatile unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference = difference | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(other));
  }
  return difference == 0;
}

Access::Access(const std::filesystem::path& file) {
  std::istringstream lines(read_file(file, kLargestFile));
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::vector<std::string> parts;
    for (std::string word; words >> word;) parts.push_back(word);
    if (parts.empty()) continue;
    const std::string where = fmt::format("{}, line {}", file.string(), number);
    if (parts.size() > 2) throw user_error("{}: a line is NAME KEY, or a key", where);
    Key key = {.name = parts.size() == 2 ? parts[0] : fmt::format("key-{}", keys_.size() + 1), .key = parts.back()};
    if (!is_name(key.name)) throw user_error("{}: a name has letters, digits, - and _ only, 64 at most", where);
    if (key.key.size() < kShortestKey) {
      throw user_error("{}: a key has at least {} characters; `openssl rand -hex 24` makes one", where, kShortestKey);
    }
    const auto is_there = [&](const Key& other) { return other.name == key.name || other.key == key.key; };
    if (std::ranges::any_of(keys_, is_there)) throw user_error("{}: the name or the key is there already", where);
    secret_ += key.name + " " + key.key + "\n";
    keys_.push_back(std::move(key));
  }
  if (keys_.empty()) throw user_error("{}: holds no key", file.string());
}

std::optional<std::string> Access::name_of(std::string_view key) const {
  std::optional<std::string> name;
  for (const Key& known : keys_) {  // all of them, so that the time tells nothing
    if (same_secret(key, known.key)) name = known.name;
  }
  return name;
}

std::string Access::signature(std::string_view session) const {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int count = 0;
  HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
       reinterpret_cast<const unsigned char*>(session.data()), session.size(), bytes, &count);
  return hex(bytes, count);
}

std::string Access::cookie(const std::string& name, int64_t now_s) const {
  if (name.empty()) return fmt::format("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", kCookie);
  const std::string session = fmt::format("{}.{}", name, now_s + kSessionSeconds);
  return fmt::format("{}={}.{}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", kCookie, session, signature(session),
                     kSessionSeconds);
}

// "NAME.END.SIGNATURE".
std::optional<std::string> Access::owner_of_session(std::string_view session, int64_t now_s) const {
  const size_t dot = session.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view signed_part = session.substr(0, dot);
  if (!same_secret(session.substr(dot + 1), signature(signed_part))) return std::nullopt;
  const size_t before = signed_part.rfind('.');
  const std::string_view end = signed_part.substr(before + 1);
  int64_t end_s = 0;
  std::from_chars(end.data(), end.data() + end.size(), end_s);
  if (end_s < now_s) return std::nullopt;
  return std::string(signed_part.substr(0, before));
}

std::optional<std::string> Access::owner_of(const Call& call) const {
  const std::string authorization = call.header("authorization");
  if (authorization.starts_with(kBearer)) return name_of(std::string_view(authorization).substr(kBearer.size()));
  return owner_of_session(session_of(call.header("cookie")), unix_seconds());
}

}  // namespace heartmula
