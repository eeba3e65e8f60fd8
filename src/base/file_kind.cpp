#include "base/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLooked = 4096;  // bytes at the beginning that decide

constexpr size_t kShortestText = 8;  // fewer bytes may be text by chance

constexpr const char* kDownloadAgain = "download it again";
constexpr const char* kTakeSafetensors = "take the checkpoint's .safetensors files instead";
constexpr const char* kUnpack = "unpack it and name what was in it";
constexpr const char* kRightFile = "is this the right file?";

struct Signature {
  size_t offset;
  std::string_view bytes;
  const char* what;
  const char* advice;
  FileKind kind = FileKind::kOther;
};

using namespace std::string_view_literals;
constexpr std::array kSignatures = {
    Signature{0, "version https://git-lfs"sv, "a pointer of Git LFS", "run `git lfs pull`"},
    Signature{0, "GGUF"sv, "a GGUF file", kTakeSafetensors},
    Signature{0, "lmgg"sv, "a GGML file", kTakeSafetensors},
    Signature{0, "tjgg"sv, "a GGML file", kTakeSafetensors},
    Signature{0, "fmgg"sv, "a GGML file", kTakeSafetensors},
    Signature{0, "\x89HDF\r\n"sv, "an HDF5 file", kTakeSafetensors},
    Signature{0, "\x93NUMPY"sv, "a NumPy array", kRightFile},
    Signature{0, "PK\x03\x04"sv, "a ZIP archive", kUnpack},
    Signature{0, "\x1F\x8B"sv, "a gzip archive", kUnpack},
    Signature{0, "BZh"sv, "a bzip2 archive", kUnpack},
    Signature{0, "\xFD\x37zXZ\0"sv, "an xz archive", kUnpack},
    Signature{0, "\x28\xB5\x2F\xFD"sv, "a Zstandard archive", kUnpack},
    Signature{0, "7z\xBC\xAF\x27\x1C"sv, "a 7-Zip archive", kUnpack},
    Signature{0, "Rar!\x1A\x07"sv, "a RAR archive", kUnpack},
    Signature{257, "ustar"sv, "a tar archive", kUnpack},
    Signature{0, "\x89PNG\r\n"sv, "a picture (PNG)", kRightFile},
    Signature{0, "\xFF\xD8\xFF"sv, "a picture (JPEG)", kRightFile},
    Signature{0, "GIF8"sv, "a picture (GIF)", kRightFile},
    Signature{8, "WEBP"sv, "a picture (WebP)", kRightFile},
    Signature{8, "WAVE"sv, "an audio file (WAV)", kRightFile, FileKind::kAudio},
    Signature{0, "fLaC"sv, "an audio file (FLAC)", kRightFile, FileKind::kAudio},
    Signature{0, "OggS"sv, "an audio file (Ogg)", kRightFile, FileKind::kAudio},
    Signature{0, "ID3"sv, "an audio file (MP3)", kRightFile, FileKind::kAudio},
    Signature{0, "\xFF\xFB"sv, "an audio file (MP3)", kRightFile, FileKind::kAudio},
    Signature{4, "ftyp"sv, "a video or audio file (MP4)", kRightFile, FileKind::kAudio},
    Signature{0, "%PDF"sv, "a PDF document", kRightFile},
    Signature{0, "{\\rtf"sv, "a word processor's document (RTF)", "save it as plain text"},
    Signature{0, "\x7F\x45LF"sv, "a program (ELF)", kRightFile},
    Signature{0, "#!"sv, "a script", kRightFile},
    Signature{0, "d8:announce"sv, "a torrent and not what it leads to", kRightFile},
    Signature{0, "\xFF\xFE"sv, "text in UTF-16", "save it as UTF-8"},
    Signature{0, "\xFE\xFF"sv, "text in UTF-16", "save it as UTF-8"},
};

struct Found {
  std::string what;
  const char* advice;
  FileKind kind = FileKind::kOther;
};

bool is_pickle(std::string_view bytes) {
  return bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5;
}

bool is_safetensors(std::string_view bytes) {
  return bytes.size() > 9 && bytes.substr(4, 5) == "\0\0\0\0{"sv && bytes[9] == '"';
}

/// Without a byte order mark and the blanks at the beginning.
std::string_view beginning_of_text(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

bool begins_without_case(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == std::tolower(static_cast<unsigned char>(b));
         });
}

bool is_text(std::string_view text) {
  return std::ranges::none_of(
             text, [](unsigned char c) { return (c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 0x7F; }) &&
         escaped(text.substr(0, text.find_first_of("\r\n\t"))).find("\\x") == std::string::npos;
}

/// UTF-16 without a byte order mark: a zero beside each letter, always on the same side.
bool is_wide_text(std::string_view bytes) {
  constexpr size_t kLetters = 64;
  std::string narrow;
  for (const size_t side : {0u, 1u}) {
    narrow.clear();
    for (size_t i = 0; i + 1 < bytes.size() && narrow.size() < kLetters && bytes[i + 1 - side] == '\0'; i += 2) {
      narrow += bytes[i + side];
    }
    const bool is_all = narrow.size() == std::min(kLetters, bytes.size() / 2);
    // Letters of other scripts may follow what JSON begins with.
    const bool is_json = narrow.starts_with('{') || narrow.starts_with('[');
    if (narrow.size() >= 2 && (is_all || is_json) && narrow.find('\0') == std::string::npos && is_text(narrow))
      return true;
  }
  return false;
}

std::optional<Found> kind_of(std::string_view bytes) {
  if (bytes.empty()) return Found{"empty", kDownloadAgain};
  if (is_safetensors(bytes)) return Found{"a safetensors file", kRightFile, FileKind::kSafetensors};
  if (is_pickle(bytes) || (bytes.starts_with("PK\x03\x04") && bytes.find("data.pkl") != std::string_view::npos)) {
    return Found{"a PyTorch file (pickle)", kTakeSafetensors};
  }
  for (const Signature& s : kSignatures) {
    if (bytes.size() > s.offset && bytes.substr(s.offset).starts_with(s.bytes)) return Found{s.what, s.advice, s.kind};
  }
  if (bytes.find_first_not_of('\0') == std::string_view::npos) {
    return Found{"nothing but zero bytes: a download that has its size but not its data", kDownloadAgain};
  }
  if (is_wide_text(bytes)) return Found{"text in UTF-16", "save it as UTF-8"};
  const std::string_view text = beginning_of_text(bytes);
  for (const std::string_view tag : {"<!doctype html", "<html", "<head", "<body", "<!--"}) {
    if (begins_without_case(text, tag)) {
      return Found{"a web page (HTML)",
                   "the address asks for a login or says what failed: open it in a browser, and download again"};
    }
  }
  if (text.starts_with("<?xml")) return Found{"an XML document, perhaps a server's error message", kDownloadAgain};
  if (bytes.size() < kShortestText || !is_text(bytes)) return std::nullopt;
  const bool is_json = text.starts_with('{') || text.starts_with('[');
  return Found{message("{}, which begins {}", is_json ? "JSON" : "text",
                       in_quotes(shortened(text.substr(0, text.find_first_of("\r\n")), 60))),
               kRightFile, is_json ? FileKind::kJson : FileKind::kOther};
}

const char* name_of(FileKind kind) {
  switch (kind) {
    case FileKind::kSafetensors:
      return "a safetensors file";
    case FileKind::kJson:
      return "JSON";
    default:
      return "an audio file";
  }
}

constexpr std::array kControlSuffixes = {".aria2", ".part", ".partial", ".incomplete", ".crdownload", ".download"};

bool is_control_file(const fs::path& path) {
  return std::ranges::find(kControlSuffixes, path.extension().string()) != kControlSuffixes.end();
}

/// Anything in `folder` itself; empty if there is nothing, or no such folder.
fs::path control_file_in(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    if (is_control_file(entry->path())) return entry->path();
  }
  return {};
}

}  // namespace

void refuse_other_kind(std::span<const std::byte> bytes, FileKind wanted, std::string_view name) {
  const std::string_view beginning(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kLooked));
  const std::optional<Found> found = kind_of(beginning);
  if (!found || found->kind == wanted) return;
  throw user_error("{}: is {}, not {}; {}", name, found->what, name_of(wanted), found->advice);
}

fs::path unfinished_download_of(const fs::path& path) {
  std::error_code ignored;
  for (const char* suffix : kControlSuffixes) {
    fs::path control = path.string() + suffix;
    if (fs::exists(control, ignored)) return control;
  }
  return {};
}

fs::path unfinished_download_in(const fs::path& folder) {
  const fs::path here = folder.empty() ? fs::path(".") : folder;
  std::error_code ignored;
  const fs::path whole = fs::weakly_canonical(here, ignored);
  const fs::path cache = fs::path(".cache") / "huggingface" / "download";
  // The client was told this folder, or the one above it.
  for (const fs::path& place : {here, here / cache, whole.parent_path() / cache / whole.filename()}) {
    if (fs::path control = control_file_in(place); !control.empty()) return control;
  }
  return {};
}

void refuse_unfinished_download(const fs::path& path) {
  const fs::path control = unfinished_download_of(path);
  if (control.empty()) return;
  throw user_error(
      "{}: {} beside it says that its download has not ended; finish it, or remove that if the file is whole",
      path.string(), control.filename().string());
}

std::string download_hint(const fs::path& folder) {
  const fs::path control = unfinished_download_in(folder);
  return control.empty() ? "" : message("; {} says that a download has not ended", control.string());
}

}  // namespace heartmula
