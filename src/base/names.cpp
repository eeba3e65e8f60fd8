#include "base/names.h"

#include "base/error.h"

namespace heartmula {

Error unknown_word(const std::string& flag, std::string_view word, const std::vector<std::string>& known) {
  std::string all = known.front();
  for (size_t i = 1; i < known.size(); ++i) {
    all += i + 1 < known.size() ? ", " : " or ";
    all += known[i];
  }
  return user_error("{} {}: must be {}", flag, word, all);
}

}  // namespace heartmula
