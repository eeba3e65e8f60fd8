#include "text/text_source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/input.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr size_t kMaxTextBytes = size_t{16} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kSpace = " \t\r\n";

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// `beginning` is in lower case.
bool begins_with(std::string_view text, std::string_view beginning) {
  if (text.size() < beginning.size()) return false;
  return std::equal(beginning.begin(), beginning.end(), text.begin(), [](char a, char b) { return a == lower(b); });
}

bool ends_in(std::string_view text, std::string_view ending) {
  return text.size() >= ending.size() && begins_with(text.substr(text.size() - ending.size()), ending);
}

std::string_view without_trailing_space(std::string_view value) {
  return value.substr(0, value.find_last_not_of(kSpace) + 1);
}

std::string_view without_leading_space(std::string_view value) {
  return value.substr(std::min(value.find_first_not_of(kSpace), value.size()));
}

/// "moon.md", but not "..." or "vol.2": an extension is two to five letters and digits, a letter first.
bool has_extension(std::string_view word) {
  const size_t dot = word.find_last_of('.');
  if (dot == std::string_view::npos || dot == 0) return false;
  const std::string_view extension = word.substr(dot + 1);
  if (extension.size() < 2 || extension.size() > 5 || !is_letter(extension.front())) return false;
  return std::all_of(extension.begin(), extension.end(), [](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

bool looks_like_a_path(std::string_view value) {
  const std::string_view line = without_trailing_space(value);
  if (line.find_first_of("\r\n") != std::string_view::npos) return false;
  for (const char* ending : {".txt", ".lrc"}) {
    if (ends_in(line, ending)) return true;
  }
  for (const char* beginning : {"/", "./", "../", "~/"}) {
    if (line.starts_with(beginning)) return true;
  }
  return line.find_first_of(" \t,") == std::string_view::npos && has_extension(line);
}

/// Python's universal newlines: "\r\n" and "\r" become "\n" in files.
std::string with_unix_line_ends(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      result += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool is_utf8(std::string_view text) {
  try {
    check_utf8("", text);
  } catch (const Error&) {
    return false;
  }
  return true;
}

/// UTF-16 has a zero in each Latin letter, space and line end, always on the same side, and UTF-32 has more of them;
/// with other letters between them it is no UTF-8, either.
bool looks_wide(std::string_view text) {
  if (text.starts_with("\xFF\xFE"sv) || text.starts_with("\xFE\xFF"sv)) return true;
  std::array<size_t, 2> zeros = {};  // at even and odd places
  for (size_t i = 0; i < text.size(); ++i) zeros[i % 2] += text[i] == '\0';
  const auto [few, many] = std::minmax(zeros[0], zeros[1]);
  if (many == 0) return false;
  const bool on_one_side = many > 1 && many > 4 * few && 20 * many >= text.size();
  const bool most_but_not_all = 2 * (few + many) >= text.size() && few + many < text.size();
  return on_one_side || most_but_not_all || !is_utf8(text);
}

/// What it is instead of a text, and what to do.
std::optional<std::string_view> document_kind(std::string_view text) {
  struct Kind {
    std::string_view beginning;
    std::string_view message;
  };
  constexpr std::string_view kOffice = "is a word processor's document (or a ZIP file): save it as plain text";
  constexpr std::string_view kAudio = "is audio, no text";
  constexpr std::array<Kind, 18> kKinds = {
      {{"{\\rtf", "is a rich text (RTF) document: save it as plain text"},
       {"<!doctype", "is a web page (HTML): save its text"},
       {"<html", "is a web page (HTML): save its text"},
       {"<?xml", "is XML: save its text"},
       {"%pdf-", "is a PDF: save its text"},
       {"pk\x03\x04", kOffice},
       {"\xD0\xCF\x11\xE0", kOffice},
       {"riff", kAudio},
       {"flac", kAudio},
       {"oggs", kAudio},
       {"id3", kAudio},
       {"\x1F\x8B", "is compressed (gzip): unpack it"},
       {"\x89png", "is a picture, no text"},
       {"\xFF\xD8\xFF", "is a picture, no text"},
       {"gguf", "is a model (GGUF), no text"},
       {"\x93numpy", "is a NumPy array, no text"},
       {"\x7F\x65lf", "is a program, no text"},
       {"version https://git-lfs", "is a pointer of Git LFS: run `git lfs pull`"}}};
  const bool is_marked = text.starts_with(kByteOrderMark);
  const std::string_view begin = without_leading_space(text.substr(is_marked ? kByteOrderMark.size() : 0));
  for (const Kind& kind : kKinds) {
    // A song may begin with such letters, but not with a byte that no text holds close behind them.
    if (kind.message == kAudio && text.substr(0, 64).find('\0') == std::string_view::npos) continue;
    if (begins_with(begin, kind.beginning)) return kind.message;
  }
  if (begin.starts_with('{') && nlohmann::json::accept(begin)) {
    return "is JSON: if it is a song's request, give it with --request; else take the text out of it";
  }
  return std::nullopt;
}

void check_controls(std::string_view name, std::string_view text) {
  constexpr std::string_view kAllowed = "\t\n\v\f\r";
  size_t line = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    line += byte == '\n';
    unsigned int control = byte < 0x20 || byte == 0x7F ? byte : 0x100;
    if (byte < 0x20 && kAllowed.find(text[i]) != std::string_view::npos) continue;
    // U+0080 to U+009F; U+0085 ends a line.
    if (byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0) {
      control = static_cast<unsigned char>(text[i + 1]);
      if (control == 0x85) continue;
    }
    if (control == 0x100) continue;
    throw user_error("{}: control character U+{:04X} in line {}: {}", name, control, line,
                     control == 0x1B ? "an escape sequence of a terminal? remove it" : "remove it");
  }
}

}  // namespace

void check_song_text(std::string_view name, std::string_view text) {
  if (const auto kind = document_kind(text)) throw user_error("{}: {}", name, *kind);
  if (looks_wide(text)) throw user_error("{}: looks like UTF-16: save it as UTF-8", name);
  try {
    check_utf8(name, text);
  } catch (const Error& error) {
    throw user_error("{}: save it as UTF-8", error.what());
  }
  check_controls(name, text);
}

std::string read_text_argument(std::string_view flag, const std::string& value, std::string_view literally) {
  const fs::path path = expand_home(value);
  const InputKind kind = input_kind(path);
  if (kind == InputKind::kFile || kind == InputKind::kStream) {
    const std::string contents = read_input(path, kMaxTextBytes);
    const std::string_view text = contents;
    check_song_text(kind == InputKind::kFile ? path.string() : std::string(flag) + " " + value, text);
    return with_unix_line_ends(text.substr(text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0));
  }
  if (kind == InputKind::kOther || looks_like_a_path(value)) {
    check_utf8(flag, value);
    const std::string how = literally.empty() ? fmt::format("give it with {}_text", flag) : std::string(literally);
    throw user_error("{} {}: {}; if this is the text itself, {}", flag, without_trailing_space(value),
                     kind == InputKind::kOther ? "is no file" : "no such file", how);
  }
  check_song_text(flag, value);
  return value;
}

}  // namespace heartmula
