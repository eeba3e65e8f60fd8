// The files of src/serve/studio, as they are in the repository. CMakeLists.txt makes the list.
#pragma once

#include <span>
#include <string_view>

namespace heartmula {

struct StudioFile {
  std::string_view name;
  std::string_view bytes;
};

std::span<const StudioFile> studio_files();

}  // namespace heartmula
