#include "base/same_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

TEST(SameFile, however_it_is_named_and_whether_or_not_it_exists) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "inner");
  fs::create_directory_symlink(folder / "inner", folder / "door");
  const fs::path name = folder / "inner/song.wav";
  fs::create_symlink("inner/song.wav", folder / "link");
  for (const bool exists : {false, true}) {
    if (exists) std::ofstream(name) << "samples";
    for (const char* other :
         {"inner/song.wav", "inner/./song.wav", "inner/../inner/song.wav", "door/song.wav", "link"}) {
      EXPECT_TRUE(same_file(name, folder / other)) << other << exists;
      EXPECT_TRUE(same_file(folder / other, name)) << other << exists;
    }
    for (const char* other : {"song.wav", "inner/song.wav.json", "inner"}) {
      EXPECT_FALSE(same_file(name, folder / other)) << other << exists;
    }
  }
  fs::create_hard_link(name, folder / "hard");
  EXPECT_TRUE(same_file(name, folder / "hard"));
}

TEST(SameFile, relative_names_are_those_of_this_folder) {
  EXPECT_TRUE(same_file("not_there.wav", "./not_there.wav"));
  EXPECT_TRUE(same_file("not_there.wav", fs::current_path() / "not_there.wav"));
  EXPECT_FALSE(same_file("not_there.wav", "nor_there.wav"));
  EXPECT_FALSE(same_file("", ""));
}

}  // namespace
}  // namespace heartmula
