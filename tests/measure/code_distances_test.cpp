#include "measure/code_distances.h"

#include <gtest/gtest.h>

#include <vector>

namespace heartmula {
namespace {

std::vector<Frame> frames(size_t count) {
  std::vector<Frame> result(count);
  for (size_t i = 0; i < count; ++i) {
    for (size_t k = 0; k < kCodebooks; ++k) result[i][k] = static_cast<int32_t>(17 * i + k);
  }
  return result;
}

TEST(CodeDistances, equal_songs_differ_nowhere) {
  const CodeDistances distances = code_distances(frames(5), frames(5));
  EXPECT_EQ(distances.frames, 5);
  EXPECT_EQ(distances.equal_frames, 5);
  EXPECT_FALSE(distances.first_difference.has_value());
  for (const int64_t equal : distances.equal_codes) EXPECT_EQ(equal, 5);
}

TEST(CodeDistances, are_counted_by_frame_and_by_codebook) {
  std::vector<Frame> other = frames(12);
  other[3][7] = -1;
  other[9][0] = -1;
  other[9][7] = -1;
  const CodeDistances distances = code_distances(frames(10), other);
  EXPECT_EQ(distances.frames, 10);
  EXPECT_EQ(distances.equal_frames, 8);
  EXPECT_EQ(distances.first_difference, 3);
  EXPECT_EQ(distances.equal_codes, (std::array<int64_t, kCodebooks>{9, 10, 10, 10, 10, 10, 10, 8}));
}

TEST(CodeDistances, a_song_that_goes_on_differs_where_the_other_ends) {
  EXPECT_EQ(code_distances(frames(3), frames(4)).first_difference, 3);
  EXPECT_EQ(code_distances(frames(4), {}).first_difference, 0);
}

}  // namespace
}  // namespace heartmula
