#include "lm/muq_embed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/testing.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// As numpy.save writes it: the header ends at a multiple of 64 bytes.
std::string numpy(const std::string& descr, const std::string& shape, const std::string& data, char version = 1) {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
  const size_t before = version == 1 ? 10 : 12;
  while ((before + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file = "\x93NUMPY";
  file += version;
  file += '\0';
  for (size_t i = 0; i < before - 8; ++i) file += static_cast<char>(header.size() >> (8 * i));
  return file + header + data;
}

std::string safetensors(const std::vector<TensorToWrite>& tensors) {
  const std::vector<std::byte> bytes = encode_safetensors(tensors, {});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const std::vector<float> kValues = {0.5F, -2.25F, 1024.0F, 0.0F};  // that every dtype holds
const std::string kF32Data = bytes_of(kValues);
const std::string kF64Data = bytes_of(std::vector<double>(kValues.begin(), kValues.end()));
const std::string kF16Data = bytes_of(std::vector<uint16_t>{0x3800, 0xc080, 0x6400, 0});
const std::string kBF16Data = bytes_of(std::vector<uint16_t>{0x3f00, 0xc010, 0x4480, 0});

class MuqEmbed : public testing::Test {
 protected:
  std::vector<float> read(const std::string& contents) { return read_muq_embed(folder_.write("style", contents), 4); }
  std::string complaint(const std::string& contents) {
    const std::string message = error_of(ErrorKind::kUser, [&] { read(contents); });
    EXPECT_THAT(message, HasSubstr("style"));
    return message;
  }
  TemporaryFolder folder_;
};

TEST_F(MuqEmbed, numpy_files_of_every_version_and_width) {
  for (const char version : {1, 2, 3}) EXPECT_EQ(read(numpy("<f4", "(4,)", kF32Data, version)), kValues);
  EXPECT_EQ(read(numpy("<f2", "(4,)", kF16Data)), kValues);
  EXPECT_EQ(read(numpy("<f8", "(4,)", kF64Data)), kValues);
  EXPECT_EQ(read(numpy("<f4", "(1, 4)", kF32Data)), kValues);
  EXPECT_EQ(read(numpy("<f4", "(1, 4, 1)", kF32Data)), kValues);
}

TEST_F(MuqEmbed, safetensors_of_every_dtype) {
  for (const auto& [dtype, data] : {std::pair(DType::kF32, kF32Data), std::pair(DType::kF64, kF64Data),
                                    std::pair(DType::kF16, kF16Data), std::pair(DType::kBF16, kBF16Data)}) {
    EXPECT_EQ(read(safetensors({{"anything", dtype, {1, 4}, std::as_bytes(std::span(data))}})), kValues);
  }
}

TEST_F(MuqEmbed, what_does_not_fit_is_refused) {
  EXPECT_THAT(complaint(numpy("<f4", "(2,)", kF32Data.substr(8))), AllOf(HasSubstr("[2]"), HasSubstr("4 numbers")));
  EXPECT_THAT(complaint(numpy("<f4", "(2, 2)", kF32Data)), HasSubstr("[2, 2]"));
  EXPECT_THAT(complaint(numpy("<f4", "(4, 4)", kF32Data + kF32Data + kF32Data + kF32Data)), HasSubstr("[4, 4]"));
  EXPECT_THAT(complaint(numpy("<f4", "()", kF32Data.substr(12))), HasSubstr("[]"));
  EXPECT_THAT(complaint(numpy("<f4", "4", kF32Data)), HasSubstr("shape"));
  EXPECT_THAT(complaint(numpy(">f4", "(4,)", kF32Data)), HasSubstr("little-endian"));
  EXPECT_THAT(complaint(numpy("<i4", "(4,)", kF32Data)), HasSubstr("float32"));
  EXPECT_THAT(complaint(numpy("<f4", "(4,)", kF32Data.substr(1))), HasSubstr("cut short"));
  EXPECT_THAT(complaint(numpy("<f4", "(4,)", kF32Data).substr(0, 40)), HasSubstr("cut short"));
  EXPECT_THAT(complaint("\x93NUMPY"), HasSubstr("cut short"));
  EXPECT_THAT(complaint(numpy("<f4", "(4,)", bytes_of(std::vector<float>{1, 2, NAN, 4}))), HasSubstr("not finite"));
  EXPECT_THAT(complaint(numpy("<f8", "(4,)", bytes_of(std::vector<double>{1, 2, 1e300, 4}))), HasSubstr("not finite"));
  const auto f32 = std::as_bytes(std::span(kF32Data));
  EXPECT_THAT(complaint(safetensors({{"a", DType::kF32, {4}, f32}, {"b", DType::kF32, {4}, f32}})),
              HasSubstr("2 tensors"));
  EXPECT_THAT(complaint(safetensors({{"a", DType::kI32, {4}, f32}})), HasSubstr("I32"));
  complaint("no numbers at all");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { read_muq_embed(folder_ / "nowhere", 4); }), HasSubstr("no such file"));
}

}  // namespace
}  // namespace heartmula
