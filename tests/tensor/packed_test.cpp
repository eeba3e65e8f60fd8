#include "tensor/packed.h"

#include <gmock/gmock.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "tensor/fingerprint.h"
#include "tensor/weight_store.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Json = nlohmann::json;
using Metadata = std::map<std::string, std::string>;

constexpr int64_t kN = 7;
constexpr int64_t kK = 5;

/// What stands at (output, k), different everywhere and exact in bf16.
float value(bool up, int64_t output, int64_t k) {
  return static_cast<float>((up ? 128 : 0) + output * 16 + k);
}

/// The definition in docs/packed_checkpoint.md, element by element.
std::vector<float> packed_values(const PackedLayout& layout, bool gated) {
  const int64_t outputs = gated ? layout.panel_width / 2 : layout.panel_width;
  const int64_t panels = (kN + outputs - 1) / outputs;
  const int64_t groups = (kK + layout.k_per_group - 1) / layout.k_per_group;
  std::vector<float> values;
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t lane = 0; lane < layout.panel_width; ++lane) {
        for (int64_t i = 0; i < layout.k_per_group; ++i) {
          const int64_t output = panel * outputs + lane % outputs;
          const int64_t k = group * layout.k_per_group + i;
          values.push_back(output < kN && k < kK ? value(lane >= outputs, output, k) : 0.0F);
        }
      }
    }
  }
  return values;
}

std::string bytes_of(const std::vector<float>& values, DType dtype) {
  std::string bytes;
  for (const float value : values) {
    const uint16_t rounded = f32_to_bf16(value);
    if (dtype == DType::kF32) bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    if (dtype == DType::kBF16) bytes.append(reinterpret_cast<const char*>(&rounded), sizeof rounded);
  }
  return bytes;
}

/// A packed file of two matrices and a vector, and whatever a test does to it.
class PackedFile {
 public:
  explicit PackedFile(const PackedLayout& layout) {
    const std::vector<PackedIndex::Matrix> matrices = {{"plain", kN, kK, false}, {"gated", kN, kK, true}};
    metadata = PackedIndex::metadata(layout, "a test", matrices, {{"plain", {kN, kK}}, {"up", {kN, kK}}}, "");
    for (const PackedIndex::Matrix& matrix : matrices) {
      const auto beyond = static_cast<int64_t>(data.size() % kPackedAlignment);
      if (beyond != 0) append(PackedIndex::gap(entries.size(), kPackedAlignment - beyond), {});
      append(PackedIndex::entry(layout, matrix), bytes_of(packed_values(layout, matrix.gated), layout.dtype));
    }
    append({"norm", DType::kF32, {2}}, std::string(8, '\1'));
  }

  void append(const TensorEntry& entry, std::string bytes) {
    entries.push_back(entry);
    bytes.resize(static_cast<size_t>(entry.bytes()));
    data += bytes;
  }

  /// Lets `change` edit one of the JSON texts of the metadata.
  template <typename Change>
  void edit(const std::string& field, const Change& change) {
    Json json = Json::parse(metadata.at(field));
    change(json);
    metadata[field] = json.dump();
  }

  WeightStore open() const {
    const std::vector<std::byte> header = encode_safetensors_header(entries, metadata, alignment);
    return WeightStore::open(folder.write(
        "model.safetensors", std::string(reinterpret_cast<const char*>(header.data()), header.size()) + data));
  }
  std::string error() const {
    return error_of(ErrorKind::kUser, [&] { open(); });
  }

  TemporaryFolder folder;
  size_t alignment = kPackedAlignment;
  std::vector<TensorEntry> entries;
  Metadata metadata;
  std::string data;
};

constexpr PackedLayout kPairs = {DType::kBF16, 16, 2};

TEST(Packed, rows_come_back_out_of_every_layout) {
  for (const PackedLayout& layout :
       {PackedLayout{DType::kF32, 16, 1}, kPairs, PackedLayout{DType::kBF16, 6, 4}, PackedLayout{DType::kF32, 2, 3}}) {
    const PackedFile file(layout);
    const WeightStore store = file.open();
    ASSERT_NE(store.packed(), nullptr);
    EXPECT_EQ(store.packed()->layout, layout);
    for (const bool gated : {false, true}) {
      const StoredMatrix* matrix = store.find_matrix(gated ? "gated" : "plain");
      ASSERT_NE(matrix, nullptr);
      EXPECT_EQ(static_cast<int64_t>(matrix->data.size()), layout.bytes(kN, kK, gated));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(matrix->data.data()) % kPackedAlignment, 0u);
      for (const bool up : {false, true}) {
        if (up && !gated) continue;
        for (int64_t output = 0; output < kN; ++output) {
          std::vector<float> row(kK);
          matrix->read_row(output, row.data(), up ? StoredMatrix::Half::kUp : StoredMatrix::Half::kGate);
          for (int64_t k = 0; k < kK; ++k) EXPECT_EQ(row[static_cast<size_t>(k)], value(up, output, k));
        }
      }
    }
  }
}

TEST(Packed, the_store_knows_what_went_into_the_matrices) {
  const PackedFile file(kPairs);
  const WeightStore store = file.open();
  EXPECT_TRUE(store.contains("up"));
  EXPECT_EQ(store.find("up"), nullptr);
  EXPECT_EQ(store.shape("up"), (std::vector<int64_t>{kN, kK}));
  EXPECT_EQ(store.shape("norm"), std::vector<int64_t>{2});
  EXPECT_EQ(store.find_matrix("norm"), nullptr);
  store.require({{"up", {kN, kK}}, {"norm", {2}}}, "config.json");
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [&] {
                         store.require({{"up", {kN, 6}}}, "config.json");
                       }),
              AllOf(HasSubstr("config.json"), HasSubstr("[7, 6]"), HasSubstr("[7, 5]")));
  EXPECT_THAT(error_of(ErrorKind::kUser,
                       [&] {
                         store.require({{"down", {kN, kK}}}, "config.json");
                       }),
              AllOf(HasSubstr("missing"), HasSubstr("down")));
  EXPECT_EQ(store.total_elements(), 3 * kN * kK + 2);
}

TEST(Packed, a_matrix_outlives_its_store) {
  const PackedFile file(kPairs);
  std::optional<WeightStore> store = file.open();
  const StoredMatrix matrix = *store->find_matrix("plain");
  store.reset();
  std::vector<float> row(kK);
  matrix.read_row(3, row.data());
  EXPECT_EQ(row[4], value(false, 3, 4));
}

TEST(Packed, a_stock_file_is_not_packed) {
  PackedFile file(kPairs);
  file.metadata = {{"format", "pt"}};
  EXPECT_EQ(file.open().packed(), nullptr);
}

TEST(BrokenPacked, missing_metadata_is_named) {
  for (const auto& [name, text] : PackedFile(kPairs).metadata) {
    if (name == "format" || name == "fingerprint") continue;
    PackedFile file(kPairs);
    file.metadata.erase(name);
    EXPECT_THAT(file.error(), AllOf(HasSubstr("model.safetensors"), HasSubstr(name), HasSubstr("convert again")));
  }
}

TEST(Packed, has_the_fingerprint_of_what_it_was_made_from_if_it_has_one) {
  PackedFile file(kPairs);
  EXPECT_EQ(file.open().packed()->fingerprint, "");
  file.metadata["fingerprint"] = "0123456789abcdef";
  const WeightStore store = file.open();
  EXPECT_EQ(store.packed()->fingerprint, "0123456789abcdef");
  EXPECT_EQ(fingerprint("{}", store), "0123456789abcdef");
  file.metadata.erase("fingerprint");  // by an older program
  EXPECT_EQ(file.open().packed()->fingerprint, "");
  file.metadata["fingerprint"] = "x\ny";
  EXPECT_THAT(file.error(), AllOf(HasSubstr("fingerprint"), HasSubstr("convert again")));
}

TEST(BrokenPacked, a_later_format_is_refused) {
  PackedFile file(kPairs);
  file.metadata["format_version"] = "3";
  EXPECT_THAT(file.error(), AllOf(HasSubstr("format \"3\""), HasSubstr("convert again")));
}

TEST(BrokenPacked, senseless_layouts_are_refused) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"panel_width", {"", "0", "-16", "7", "1.5", "100000", "many", "null"}},
      {"k_per_group", {"", "0", "-2", "99999999999999999999"}},
      {"dtype", {"", "F16", "I8", "bf16"}},
      {"gate_up", {"", "alternating"}},
      {"matrices", {"", "[]", "{", "null"}},
      {"replaces", {"", "[]", "{\"up\": 5}", "{\"up\": [-1]}", "{\"up\": [\"7\"]}", "{\"up\": null}"}},
  };
  for (const auto& [field, texts] : cases) {
    for (const std::string& text : texts) {
      PackedFile file(kPairs);
      file.metadata[field] = text;
      EXPECT_THAT(file.error(), HasSubstr("model.safetensors")) << field << " " << text;
    }
  }
}

TEST(BrokenPacked, another_layout_than_the_data_s_is_refused_with_both_shapes) {
  PackedFile file(kPairs);
  file.metadata["panel_width"] = "32";
  EXPECT_THAT(file.error(), AllOf(HasSubstr("[1, 3, 32, 2]"), HasSubstr("[1, 3, 16, 2]")));
}

TEST(BrokenPacked, matrices_and_tensors_must_agree) {
  {
    PackedFile file(kPairs);
    file.edit("matrices", [](Json& json) { json["more"] = json["plain"]; });
    EXPECT_THAT(file.error(), AllOf(HasSubstr("lacks"), HasSubstr("more")));
  }
  {
    PackedFile file(kPairs);
    file.edit("matrices", [](Json& json) { json.erase("plain"); });
    EXPECT_THAT(file.error(), HasSubstr("packed:plain"));
  }
  for (const auto& [field, number] :
       std::vector<std::pair<std::string, Json>>{{"n", 17}, {"k", 7}, {"n", 0}, {"k", -1}, {"n", 1e30}, {"gated", 1}}) {
    PackedFile file(kPairs);
    file.edit("matrices", [&field = field, &number = number](Json& json) { json["plain"][field] = number; });
    EXPECT_THAT(file.error(), HasSubstr("plain")) << field << " " << number;
  }
}

TEST(BrokenPacked, a_matrix_that_is_not_aligned_is_refused) {
  PackedFile file(kPairs);
  file.entries.insert(file.entries.begin(), {"eight bytes", DType::kF32, {2}});
  file.data.insert(0, std::string(8, '\1'));
  EXPECT_THAT(file.error(), AllOf(HasSubstr("packed matrix"), HasSubstr("multiple of 64")));
}

TEST(BrokenPacked, a_truncated_file_is_refused) {
  PackedFile file(kPairs);
  file.data.pop_back();
  EXPECT_THAT(file.error(), HasSubstr("truncated"));
}

}  // namespace
}  // namespace heartmula
