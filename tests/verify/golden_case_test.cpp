// Every golden case passes: the one in the repository and those named in HEARTMULA_GOLDEN=DIR[:DIR...].
#include "verify/golden_case.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

namespace heartmula {
namespace {

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders(1, HEARTMULA_TEST_DATA "/tiny1");
  const char* more = std::getenv("HEARTMULA_GOLDEN");
  std::istringstream list(more == nullptr ? "" : more);
  for (std::string folder; std::getline(list, folder, ':');) {
    if (!folder.empty()) folders.push_back(folder);
  }
  return folders;
}

class GoldenCase : public testing::TestWithParam<std::string> {};

TEST_P(GoldenCase, every_stage_agrees_with_the_reference) {
  const std::vector<Check> checks = verify_case(GetParam(), {}, nullptr);
  EXPECT_TRUE(all_passed(checks)) << to_table(checks, device_of({}));
  EXPECT_GT(checks.size(), 40U);
}

INSTANTIATE_TEST_SUITE_P(Folders, GoldenCase, testing::ValuesIn(golden_folders()),
                         [](const auto& tested) { return "case" + std::to_string(tested.index); });

}  // namespace
}  // namespace heartmula
