#include "song/codes_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <fstream>
#include <string_view>

#include "base/testing.h"
#include "heartmula/error.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Frame frame(int32_t t) {
  return {t, 8196, t + 1, 0, 7, 8191, 1, t % 5};
}

class CodesFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "heartmula_codes_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
    return names;
  }

  fs::path folder_;
};

template <typename Code>
std::vector<std::byte> encode(DType dtype, std::vector<int64_t> shape, const std::vector<Code>& codes,
                              const std::string& name = "codes") {
  const TensorToWrite tensor = {name, dtype, std::move(shape), std::as_bytes(std::span(codes))};
  return encode_safetensors({&tensor, 1}, {});
}

TEST_F(CodesFile, is_whole_after_each_frame) {
  const fs::path path = folder_ / "Été 夏.safetensors";
  const std::string request = R"({"lyrics": "\"歌\" 🎵\n", "seed": 18446744073709551615})";
  CodesWriter writer(path, {request, "0123456789abcdef", "fedcba9876543210"});
  EXPECT_THAT(files(), testing::IsEmpty());
  std::vector<Frame> frames;
  for (int32_t t = 0; t < 40; ++t) {
    writer.append(frame(t));
    frames.push_back(frame(t));
    const Codes codes = read_codes(path);
    ASSERT_EQ(codes.frames, frames);
    ASSERT_EQ(codes.origin.request_json, request);
    ASSERT_EQ(files().size(), 1u);
  }
  writer.finish();
  EXPECT_EQ(read_codes(path).frames, frames);
  EXPECT_EQ(SafetensorsFile::open(path).metadata().at("format"), "heartmula-codes");
  writer.remove();
  EXPECT_THAT(files(), testing::IsEmpty());
  writer.remove();
}

TEST_F(CodesFile, goes_on_after_earlier_frames) {
  const fs::path path = folder_ / "codes";
  CodesWriter writer(path, {"{}", "", ""}, {frame(0), frame(1)});
  writer.append(frame(2));
  EXPECT_EQ(read_codes(path).frames, (std::vector<Frame>{frame(0), frame(1), frame(2)}));
}

TEST_F(CodesFile, may_be_empty) {
  CodesWriter(folder_ / "codes", {"{}", "", ""}).finish();
  EXPECT_TRUE(read_codes(folder_ / "codes").frames.empty());
}

TEST_F(CodesFile, is_refused_where_nothing_can_be_replaced) {
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { CodesWriter("/dev/full", {"{}", "", ""}); }), HasSubstr("/dev/full"));
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [&] {
                         CodesWriter(folder_ / "no" / "codes", {"{}", "", ""});
                       }),
              HasSubstr("no"));
}

TEST_F(CodesFile, keeps_what_it_has_when_the_disk_is_full) {
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "mount is not permitted here";
  const fs::path path = disk / "codes";
  CodesWriter writer(path, {"{}", "", ""});
  size_t frames = 0;
  const std::string message = error_of(ErrorKind::kFailure, [&] {
    for (int32_t t = 0; t < 10'000; ++t, ++frames) writer.append(frame(t));
  });
  EXPECT_EQ(message, path.string() + ": No space left on device");
  EXPECT_GT(frames, 500u);
  EXPECT_EQ(read_codes(path).frames.size(), frames);
  EXPECT_EQ(std::distance(fs::directory_iterator(disk), {}), 1);
  ASSERT_EQ(::umount(disk.c_str()), 0);
}

TEST(ParseCodes, accepts_64_bit_codes) {
  const std::vector<int64_t> codes = {0, 1, 2, 3, 4, 5, 6, 8196};
  EXPECT_EQ(parse_codes(encode(DType::kI64, {1, 8}, codes), "x").frames,
            (std::vector<Frame>{{0, 1, 2, 3, 4, 5, 6, 8196}}));
}

TEST(ParseCodes, says_what_is_wrong) {
  const auto message = [](const std::vector<std::byte>& bytes) {
    return error_of(ErrorKind::kUser, [&] { parse_codes(bytes, "song.codes"); });
  };
  std::vector<int32_t> codes(16);
  EXPECT_THAT(message(encode(DType::kI32, {2, 8}, codes, "weight")), HasSubstr("no tensor 'codes'"));
  EXPECT_THAT(message(encode(DType::kI32, {8, 2}, codes)), HasSubstr("codes is [8, 2]"));
  EXPECT_THAT(message(encode(DType::kI32, {16}, codes)), HasSubstr("codes is [16]"));
  EXPECT_THAT(message(encode(DType::kF32, {2, 8}, codes)), HasSubstr("codes is F32"));
  codes[13] = -1;
  EXPECT_THAT(message(encode(DType::kI32, {2, 8}, codes)), HasSubstr("song.codes: codes[1, 5] is -1"));
  codes[13] = 1 << 20;
  EXPECT_THAT(message(encode(DType::kI32, {2, 8}, codes)), HasSubstr("codes[1, 5] is 1048576"));
  const std::vector<int64_t> wide(8, int64_t{1} << 32);
  EXPECT_THAT(message(encode(DType::kI64, {1, 8}, wide)), HasSubstr("codes[0, 0] is 4294967296"));
  std::vector<std::byte> cut = encode(DType::kI32, {2, 8}, std::vector<int32_t>(16));
  cut.pop_back();
  EXPECT_THAT(message(cut), HasSubstr("song.codes: "));
  EXPECT_THAT(message({}), HasSubstr("song.codes: "));
}

}  // namespace
}  // namespace heartmula
