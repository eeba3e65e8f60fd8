// Where an encoder's bytes go: a file with random access, or a stream that only goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "heartmula/cancel.h"

namespace heartmula {

/// Neither libsndfile nor TagLib tells reliably that a write failed, so both write through this class, which keeps the
/// first error and writes nothing after it. Not thread-safe.
class OutputStream {
 public:
  /// kRegular: an existing file, opened for reading and writing.
  /// kStream: a pipe, a device, or what /dev/stdout, /dev/fd/N and /proc/self/fd/N stand for. Only what is written at
  /// the end leaves; the first kHeadBytes are held back for a while, so that a header can be mended. A file (`> FILE`)
  /// takes everything where it belongs, from the descriptor's position on, unless it is appended to (`>> FILE`).
  /// Waiting for the reader of a stream ends, with the error ECANCELED, when `cancel` is raised (null for none).
  /// Throws Error(kFailure) if it cannot be opened.
  OutputStream(const std::filesystem::path& path, OutputKind kind, const CancelToken* cancel = nullptr);
  ~OutputStream();
  OutputStream(const OutputStream&) = delete;
  OutputStream& operator=(const OutputStream&) = delete;

  static constexpr size_t kHeadBytes = 4096;
  /// Called for a stream's head when it has to leave before everything was written.
  using EditHead = void (*)(std::vector<std::byte>& head);
  void set_edit_head(EditHead edit) { edit_head_ = edit; }

  int64_t position() const { return position_; }
  int64_t size() const { return size_; }
  void seek(int64_t position) { position_ = position; }
  /// At the position, which moves on. Returns how many bytes there were before the end; none of a stream.
  size_t read(void* bytes, size_t count);
  /// At the position, which moves on, also after an error: an encoder that meets one leaks (libsndfile 1.2, Vorbis).
  void write(const void* bytes, size_t count);
  /// Cuts a file off.
  void truncate(int64_t size);
  /// Lets the head of a stream leave if it is still here, and closes.
  void close();
  /// errno of the first call that failed, or 0.
  int error() const { return error_; }

 private:
  void send(const std::byte* bytes, size_t count);
  bool wait_for_reader() const;
  void leave_at_end();

  OutputKind kind_;
  const CancelToken* cancel_;
  int descriptor_ = -1;
  bool has_random_access_;
  int64_t begin_ = 0;  // of this output in its file
  int error_ = 0;
  int64_t position_ = 0;
  int64_t size_ = 0;
  bool head_left_ = false;
  std::vector<std::byte> head_;
  EditHead edit_head_ = nullptr;
};

}  // namespace heartmula
