// Tags and lyrics as they stand on the command line.
#pragma once

#include <string>
#include <string_view>

namespace heartmula {

/// The text that `value`, the argument of `flag` ("--lyrics"), stands for: the contents of the regular file of that
/// name with line ends as '\n' and without a byte order mark, or else the value itself. Throws Error(kUser) if it looks
/// like the name of a file (one line that ends in .txt or .lrc or begins with /, ./, ../ or ~/) and there is none, or
/// if it is not UTF-8.
std::string read_text_argument(std::string_view flag, const std::string& value);

}  // namespace heartmula
