#include "song/codes_file.h"

#include <cstring>
#include <map>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

constexpr const char* kFormat = "heartmula-codes";

template <typename Integer>
std::vector<Frame> checked_frames(std::span<const std::byte> data, size_t count, const std::string& name) {
  std::vector<Frame> frames(count);
  for (size_t i = 0; i < count * kCodebooks; ++i) {
    Integer code = 0;
    std::memcpy(&code, data.data() + i * sizeof(code), sizeof(code));
    if (code < 0 || code >= kCodeLimit) {
      throw user_error("{}: codes[{}, {}] is {}: no codebook has such an entry", name, i / kCodebooks, i % kCodebooks,
                       code);
    }
    frames[i / kCodebooks][i % kCodebooks] = static_cast<int32_t>(code);
  }
  return frames;
}

}  // namespace

Codes codes_in(const SafetensorsFile& file) {
  const std::string& name = file.name();
  const StoredTensor* tensor = file.find("codes");
  if (tensor == nullptr) throw user_error("{}: not a codes file: it has no tensor 'codes'", name);
  if (tensor->shape.size() != 2 || tensor->shape[1] != kCodebooks) {
    throw user_error("{}: codes is {}, but a song's codes are [frames, {}]", name, shape_string(tensor->shape),
                     kCodebooks);
  }
  const auto count = static_cast<size_t>(tensor->shape[0]);
  Codes codes;
  if (tensor->dtype == DType::kI32) {
    codes.frames = checked_frames<int32_t>(tensor->data, count, name);
  } else if (tensor->dtype == DType::kI64) {
    codes.frames = checked_frames<int64_t>(tensor->data, count, name);
  } else {
    throw user_error("{}: codes is {}, but must be I32 or I64", name, dtype_name(tensor->dtype));
  }
  const auto metadata = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  codes.origin = {metadata("request"), metadata("language_model"), metadata("codec")};
  codes.name = name;
  return codes;
}

Codes read_codes(const std::filesystem::path& path) {
  return codes_in(SafetensorsFile::open(path));
}

Codes parse_codes(std::span<const std::byte> bytes, const std::string& name) {
  return codes_in(SafetensorsFile::parse(bytes, name));
}

std::vector<std::byte> encode_codes(std::span<const Frame> frames, const CodesOrigin& origin) {
  const TensorToWrite codes = {
      "codes", DType::kI32, {static_cast<int64_t>(frames.size()), kCodebooks}, std::as_bytes(frames)};
  return encode_safetensors({&codes, 1}, {{"format", kFormat},
                                          {"request", origin.request_json},
                                          {"language_model", origin.language_model},
                                          {"codec", origin.codec}});
}

CodesWriter::CodesWriter(std::filesystem::path path, CodesOrigin origin, std::vector<Frame> begin)
    : path_(std::move(path)), origin_(std::move(origin)), frames_(std::move(begin)) {
  if (check_writable(path_) != OutputKind::kRegular) {
    throw user_error("{}: codes can only be saved in a regular file", path_.string());
  }
}

void CodesWriter::append(const Frame& frame) {
  frames_.push_back(frame);
  const auto now = std::chrono::steady_clock::now();
  const bool sync = now - last_sync_ >= std::chrono::seconds(1);
  try {
    save(sync);
  } catch (...) {
    frames_.pop_back();
    throw;
  }
  if (sync) last_sync_ = now;
}

void CodesWriter::finish() {
  save(/*sync=*/true);
}

void CodesWriter::remove() {
  std::error_code error;
  std::filesystem::remove(path_, error);
  if (error) throw failure("{}: cannot be deleted: {}", path_.string(), error.message());
}

void CodesWriter::save(bool sync) {
  AtomicFile file(path_);
  file.write(encode_codes(frames_, origin_));
  file.commit(sync);
}

}  // namespace heartmula
