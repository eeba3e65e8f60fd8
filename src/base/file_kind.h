// What a file is when it is not what it should be, and whether its download has ended.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace heartmula {

enum class FileKind { kSafetensors, kJson, kAudio, kOther };

/// For a file that cannot be read as `wanted`, of which `bytes` are all or the beginning: throws Error(kUser) "NAME: is
/// a web page (HTML), not a safetensors file; ..." if they are of another kind that is known by its first bytes.
void refuse_other_kind(std::span<const std::byte> bytes, FileKind wanted, std::string_view name);

/// What a downloader keeps beside `path` until all of it is there (X.aria2, X.part, ...); empty if nothing is.
std::filesystem::path unfinished_download_of(const std::filesystem::path& path);
/// The same of anything in `folder`, the Hugging Face client's hidden folder included.
std::filesystem::path unfinished_download_in(const std::filesystem::path& folder);

/// Throws Error(kUser) if the download of `path` has not ended, however whole the file looks.
void refuse_unfinished_download(const std::filesystem::path& path);
/// "; MARK says that a download has not ended" for the message about a file that is missing or broken in `folder`; or
/// nothing.
std::string download_hint(const std::filesystem::path& folder);

/// The result of read(), which reads `path`. Its Error(kUser) gets the hint about downloads.
template <typename Read>
auto read_downloaded(const std::filesystem::path& path, const Read& read) {
  refuse_unfinished_download(path);
  try {
    return read();
  } catch (const Error& error) {
    const std::string hint = error.kind() == ErrorKind::kUser ? download_hint(path.parent_path()) : "";
    if (hint.empty()) throw;
    throw Error(error.kind(), error.what() + hint);
  }
}

}  // namespace heartmula
