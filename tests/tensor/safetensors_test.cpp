#include "tensor/safetensors.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <cstring>
#include <numeric>

#include "base/file.h"
#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// A file with this header and as many bytes of data.
std::string file_with(std::string_view header, size_t data_bytes = 0) {
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

/// The message with which a file is refused.
std::string refusal(std::string_view file) {
  const std::string message =
      error_of(ErrorKind::kUser, [&] { SafetensorsFile::parse(bytes_of(file), "some/model.safetensors"); });
  EXPECT_THAT(message, StartsWith("some/model.safetensors: "));
  EXPECT_LT(message.size(), 500u);
  return message;
}

std::string refusal_of_header(std::string_view header, size_t data_bytes = 0) {
  return refusal(file_with(header, data_bytes));
}

TEST(Safetensors, reads_tensors_in_order_of_their_names) {
  const std::string file = file_with(R"({"b":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},)"
                                     R"("__metadata__":{"format":"pt","note":"\u00e4"},)"
                                     R"("a":{"shape":[],"data_offsets":[0,2],"dtype":"BF16"},)"
                                     R"("empty":{"dtype":"I64","shape":[4,0],"data_offsets":[10,10]}}   )",
                                     10);
  const SafetensorsFile parsed = SafetensorsFile::parse(bytes_of(file), "memory");
  EXPECT_EQ(parsed.name(), "memory");
  EXPECT_EQ(parsed.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "ä"}}));
  ASSERT_EQ(parsed.tensors().size(), 3u);

  const StoredTensor& a = parsed.tensors()[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kBF16);
  EXPECT_EQ(a.shape, (std::vector<int64_t>{}));
  EXPECT_EQ(a.elements(), 1);
  EXPECT_EQ(a.data[0], std::byte{0});

  const StoredTensor& b = parsed.tensors()[1];
  EXPECT_EQ(&b, parsed.find("b"));
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(b.elements(), 2);
  EXPECT_EQ(b.data.size(), 8u);
  EXPECT_EQ(b.data[0], std::byte{2});

  EXPECT_EQ(parsed.find("empty")->elements(), 0);
  EXPECT_EQ(parsed.find("c"), nullptr);
  EXPECT_EQ(parsed.find(""), nullptr);
  EXPECT_EQ(parsed.find("__metadata__"), nullptr);
}

TEST(Safetensors, an_empty_header_is_an_empty_file) {
  const std::string file = file_with("{}");
  EXPECT_TRUE(SafetensorsFile::parse(bytes_of(file), "memory").tensors().empty());
}

TEST(Safetensors, refuses_hostile_header_lengths) {
  const auto with_length = [](uint64_t length, std::string_view rest) {
    std::string file(sizeof length, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    return file.append(rest);
  };
  EXPECT_THAT(refusal(""), HasSubstr("is empty, not a safetensors file"));
  EXPECT_THAT(refusal("\x12\x34\x56\x78\x9a\xbc\xde"),
              HasSubstr("7 bytes are too few for a safetensors file; is the download complete?"));
  EXPECT_THAT(refusal(with_length(0, "")), HasSubstr("nothing but zero bytes"));
  EXPECT_THAT(refusal(with_length(0, "{}")), HasSubstr("not a safetensors file"));
  EXPECT_THAT(refusal(with_length(3, "{}")),
              HasSubstr("3 bytes of header expected, 2 found; is the download complete?"));
  EXPECT_THAT(refusal(with_length(100'000'000, "{}")), HasSubstr("100000000 bytes of header expected, 2 found"));
  EXPECT_THAT(refusal(with_length(100'000'001, "{}")), HasSubstr("a header of 100000001 bytes"));
  EXPECT_THAT(refusal(with_length(~uint64_t{0}, "{}")), HasSubstr("not a safetensors file"));
  EXPECT_THAT(refusal(with_length(~uint64_t{0} - 7, "{}")), HasSubstr("not a safetensors file"));
}

TEST(Safetensors, says_what_a_file_is_that_is_none) {
  EXPECT_THAT(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), HasSubstr("git lfs pull"));
  EXPECT_THAT(refusal("<!DOCTYPE html><html lang=\"en\">"), HasSubstr("is a web page (HTML), not a safetensors file"));
  EXPECT_THAT(refusal("Entry not found"), HasSubstr("is text, which begins \"Entry not found\""));
}

TEST(Safetensors, refuses_a_download_that_has_not_ended_however_whole_it_looks) {
  const TemporaryFolder folder;
  const std::vector<std::byte> whole = encode_safetensors({}, {});
  const auto path = folder.write("model.safetensors", {reinterpret_cast<const char*>(whole.data()), whole.size()});
  EXPECT_EQ(SafetensorsFile::open(path).tensors().size(), 0u);
  folder.write("model.safetensors.aria2", "");
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { SafetensorsFile::open(path); }),
            path.string() +
                ": model.safetensors.aria2 beside it says that its download has not ended; finish it, or "
                "remove that if the file is whole");
}

TEST(Safetensors, refuses_headers_that_are_not_json) {
  EXPECT_THAT(refusal_of_header("[]"), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal_of_header(" {}"), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal_of_header("\xEF\xBB\xBF{}"), HasSubstr("does not begin with {"));
  EXPECT_THAT(refusal_of_header("{"), HasSubstr("not valid JSON (byte 2)"));
  EXPECT_THAT(refusal_of_header("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_header("{'a':1}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"dtype":"F32",}})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_header("{\"\xff\":{}}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_header("{\"\xc0\x80\":{}}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_header(R"({"\ud800":{}})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_header(std::string_view("{}\0garbage", 10)), HasSubstr("not valid JSON (byte 3)"));
  EXPECT_THAT(refusal_of_header("{\"" + std::string(1'000'000, 'x')), HasSubstr("not valid JSON"));
}

TEST(Safetensors, refuses_headers_of_another_form) {
  EXPECT_THAT(refusal_of_header(R"({"a":1})"), HasSubstr("tensor \"a\" has a number where"));
  EXPECT_THAT(refusal_of_header(R"({"a":null})"), HasSubstr("has null where"));
  EXPECT_THAT(refusal_of_header(R"({"a":[]})"), HasSubstr("has a list where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{}})"), HasSubstr("tensor \"a\" lacks its dtype, shape or data_offsets"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"dtype":"F32","shape":[]}})"), HasSubstr("lacks"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"dtype":4}})"), HasSubstr("has a number where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"dtype":{}}})"), HasSubstr("has an object where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"shape":4}})"), HasSubstr("has a number where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"shape":[[1]]}})"), HasSubstr("has a list where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"shape":["1"]}})"), HasSubstr("has a string where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"shape":[true]}})"), HasSubstr("has a boolean where"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"data_offsets":[0]}})"), HasSubstr("fewer than two data_offsets"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"data_offsets":[0,0,0]}})"), HasSubstr("more than two data_offsets"));
  EXPECT_THAT(refusal_of_header(R"({"a":{"stride":[1]}})"), HasSubstr("unknown entry \"stride\""));
  EXPECT_THAT(refusal_of_header(R"({"a":{"dtype":"F32","dtype":"F32"}})"), HasSubstr("two entries \"dtype\""));
}

TEST(Safetensors, deep_nesting_is_harmless) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep = "{\"a\":{\"shape\":";
    for (int i = 0; i < 1'000'000; ++i) deep += open;
    refusal_of_header(deep);
    deep = "{\"__metadata__\":";
    for (int i = 0; i < 1'000'000; ++i) deep += open;
    refusal_of_header(deep);
  }
}

TEST(Safetensors, refuses_the_same_name_twice) {
  EXPECT_THAT(refusal_of_header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                                R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                3),
              HasSubstr("two tensors \"a\""));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("two entries \"__metadata__\""));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{"a":"1","a":"1"}})"), HasSubstr("two entries \"a\""));
}

TEST(Safetensors, metadata_must_be_strings) {
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{"a":1}})"), HasSubstr("__metadata__ must be strings by name"));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":{"a":["1"]}})"), HasSubstr("__metadata__ must be strings by name"));
  EXPECT_THAT(refusal_of_header(R"({"__metadata__":"a"})"), HasSubstr("__metadata__ must be strings by name"));
}

/// A header with one tensor "t".
std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return std::string(R"({"t":{"dtype":")") + std::string(dtype) + R"(","shape":)" + std::string(shape) +
         R"(,"data_offsets":)" + std::string(offsets) + "}}";
}

TEST(Safetensors, refuses_unknown_dtypes) {
  EXPECT_EQ(refusal_of_header(one("F8_E4M3", "[1]", "[0,1]"), 1),
            "some/model.safetensors: tensor \"t\" has the dtype \"F8_E4M3\", which is not supported");
}

TEST(Safetensors, refuses_shapes_that_do_not_fit_their_data) {
  EXPECT_EQ(refusal_of_header(one("F32", "[2,2]", "[0,8]"), 8),
            "some/model.safetensors: tensor \"t\" has 8 bytes of data, but F32 [2, 2] needs 16");
  EXPECT_THAT(refusal_of_header(one("F32", "[]", "[0,8]"), 8), HasSubstr("F32 [] needs 4"));
  EXPECT_THAT(refusal_of_header(one("F32", "[0]", "[0,4]"), 4), HasSubstr("F32 [0] needs 0"));
  EXPECT_THAT(refusal_of_header(one("U8", "[-1]", "[0,1]"), 1), HasSubstr("negative"));
  EXPECT_THAT(refusal_of_header(one("U8", "[-1,-1]", "[0,1]"), 1), HasSubstr("negative"));
  EXPECT_THAT(refusal_of_header(one("U8", "[1.0]", "[0,1]"), 1), HasSubstr("a fraction"));
  EXPECT_THAT(refusal_of_header(one("U8", "[4294967296,4294967296]", "[0,0]")), HasSubstr("absurd shape"));
  EXPECT_THAT(refusal_of_header(one("F32", "[4611686018427387905]", "[0,4]"), 4), HasSubstr("absurd shape"));
  EXPECT_THAT(refusal_of_header(one("U8", "[9223372036854775808]", "[0,1]"), 1), HasSubstr("beyond 2^63"));
  EXPECT_THAT(refusal_of_header(one("U8", "[99999999999999999999]", "[0,1]"), 1), HasSubstr("huge number"));
  std::string ones = "[1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  EXPECT_THAT(refusal_of_header(one("U8", ones + "]", "[0,1]"), 1), HasSubstr("more than 64 dimensions"));
  const std::string zero_of_many = file_with(one("U8", "[4294967296,4294967296,0]", "[0,0]"));
  EXPECT_EQ(SafetensorsFile::parse(bytes_of(zero_of_many), "x").tensors()[0].elements(), 0);
}

TEST(Safetensors, refuses_offsets_that_do_not_cover_the_data) {
  EXPECT_THAT(refusal_of_header(one("U8", "[1]", "[1,0]"), 1), HasSubstr("ends before it begins"));
  EXPECT_THAT(refusal_of_header(one("U8", "[1]", "[-1,0]"), 1), HasSubstr("negative"));
  EXPECT_THAT(refusal_of_header(one("U8", "[1]", "[18446744073709551615,0]"), 1), HasSubstr("ends before"));
  EXPECT_THAT(refusal_of_header(one("U8", "[0]", "[18446744073709551615,18446744073709551615]")),
              HasSubstr("begins at"));
  EXPECT_THAT(refusal_of_header(one("U8", "[1]", "[1,2]"), 2), HasSubstr("begins at byte 1 of the data, but"));
  const auto two = [](std::string_view first, std::string_view second) {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + std::string(first) +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(second) + "}}";
  };
  EXPECT_THAT(refusal_of_header(two("[0,4]", "[3,7]"), 7), HasSubstr("\"b\" begins at byte 3"));
  EXPECT_THAT(refusal_of_header(two("[0,4]", "[0,4]"), 4), HasSubstr("begins at byte 0"));
  EXPECT_THAT(refusal_of_header(two("[5,9]", "[0,4]"), 9), HasSubstr("\"a\" begins at byte 5"));
}

TEST(Safetensors, says_how_much_of_a_truncated_file_is_missing) {
  const std::string header = one("F32", "[2,2]", "[0,16]");
  const std::string whole = file_with(header, 16);
  EXPECT_EQ(refusal(whole.substr(0, whole.size() - 5)),
            "some/model.safetensors: truncated: " + std::to_string(whole.size()) + " bytes expected, " +
                std::to_string(whole.size() - 5) + " found; is the download complete?");
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("something follows the last tensor"));
  for (size_t length = 1; length < whole.size(); ++length) {
    EXPECT_THAT(refusal(std::string_view(whole).substr(0, length)), HasSubstr("is the download complete?"));
  }
}

TEST(Safetensors, names_in_messages_are_escaped_and_shortened) {
  EXPECT_THAT(refusal_of_header(R"({"a\nb\u001b[31m":{}})"), HasSubstr(R"("a\x0ab\x1b[31m")"));
  EXPECT_THAT(refusal_of_header("{\"" + std::string(100'000, 'n') + "\":{}}"), HasSubstr("nnn ... nnn"));
}

TEST(Safetensors, flipped_bits_never_crash) {
  const std::string whole = file_with(one("F32", "[2,2]", "[0,16]"), 16);
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string broken = whole;
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << bit % 8));
    try {
      SafetensorsFile::parse(bytes_of(broken), "broken");
    } catch (const Error&) {
    }
  }
}

TEST(Safetensors, open_maps_the_file_and_names_it) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("model.safetensors", file_with(one("U8", "[5000]", "[0,5000]"), 5000));
  SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.name(), path.string());
  const SafetensorsFile copy = file;
  file = SafetensorsFile();
  const StoredTensor& tensor = copy.tensors().at(0);
  copy.release(tensor);
  EXPECT_EQ(tensor.data[4999], static_cast<std::byte>(4999 % 256));

  fs::resize_file(path, 1000);
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { SafetensorsFile::open(path); }),
              StartsWith(path.string() + ": truncated"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { SafetensorsFile::open(folder / "none"); }), HasSubstr("no such file"));
}

TEST(EncodeSafetensors, is_read_back_and_aligned) {
  std::vector<std::byte> data(64);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 3);
  const std::span<const std::byte> all(data);
  const std::vector<TensorToWrite> tensors = {{"flag", DType::kBool, {3}, all.first(3)},
                                              {"half", DType::kBF16, {1, 5}, all.subspan(3, 10)},
                                              {"codes", DType::kI32, {2, 3}, all.subspan(13, 24)},
                                              {"none", DType::kF32, {0, 8}, {}},
                                              {"wide", DType::kI64, {1}, all.subspan(40, 8)}};
  for (const std::map<std::string, std::string>& metadata :
       {std::map<std::string, std::string>{},
        std::map<std::string, std::string>{{"request", "{\"seed\": 1}\n\"ü\""}}}) {
    const std::vector<std::byte> bytes = encode_safetensors(tensors, metadata);
    const SafetensorsFile file = SafetensorsFile::parse(bytes, "memory");
    EXPECT_EQ(file.metadata(), metadata);
    ASSERT_EQ(file.tensors().size(), tensors.size());
    for (const TensorToWrite& written : tensors) {
      const StoredTensor* read = file.find(written.name);
      ASSERT_NE(read, nullptr);
      EXPECT_EQ(read->dtype, written.dtype);
      EXPECT_EQ(read->shape, written.shape);
      EXPECT_TRUE(std::ranges::equal(read->data, written.data)) << written.name;
      EXPECT_EQ(static_cast<size_t>(read->data.data() - bytes.data()) % dtype_size(read->dtype), 0u) << written.name;
    }
  }
  EXPECT_TRUE(SafetensorsFile::parse(encode_safetensors({}, {}), "memory").tensors().empty());
}

TEST(EncodeSafetensors, refuses_text_that_is_not_utf8) {
  error_of(ErrorKind::kUser, [] { encode_safetensors({}, {{"lyrics", "\xff"}}); });
}

TEST(ShapeString, lists_the_dimensions) {
  EXPECT_EQ(shape_string(std::vector<int64_t>{8, 64}), "[8, 64]");
  EXPECT_EQ(shape_string({}), "[]");
}

// Files that the reference implementation wrote: the repository's and those of HEARTMULA_GOLDEN=DIR[:DIR...].
TEST(Safetensors, reads_the_golden_files) {
  const char* more = std::getenv("HEARTMULA_GOLDEN");
  int files = 0;
  std::istringstream list(std::string(HEARTMULA_TEST_DATA) + ":" + (more == nullptr ? "" : more));
  for (std::string folder; std::getline(list, folder, ':');) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      const SafetensorsFile file = SafetensorsFile::open(entry.path());
      EXPECT_FALSE(file.tensors().empty()) << file.name();
      ++files;
    }
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace heartmula
