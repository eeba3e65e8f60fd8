// The page of a blind listening test; its text is abx.html.
#pragma once

#include <string_view>

namespace heartmula {

extern const std::string_view kAbxPage;

}  // namespace heartmula
