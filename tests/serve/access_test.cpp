#include "serve/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

using testing::HasSubstr;

constexpr const char* kKey = "0123456789abcdef-first";
constexpr const char* kOther = "0123456789abcdef-other";

int64_t now_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

class AccessTest : public testing::Test {
 protected:
  AccessTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "heartmula_access_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~AccessTest() override { std::filesystem::remove_all(folder_); }

  Access access(const std::string& lines) {
    write_file(folder_ / "keys", lines);
    return Access(folder_ / "keys");
  }
  std::string refusal(const std::string& lines) {
    try {
      access(lines);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      return error.what();
    }
    return {};
  }
  static Call with(const std::string& header, const std::string& value) {
    Call call = {.method = "GET"};
    call.headers[header] = value;
    return call;
  }
  // The part of Set-Cookie that a browser sends back.
  static std::string sent_back(const std::string& cookie) { return cookie.substr(0, cookie.find(';')); }

  std::filesystem::path folder_;
};

TEST_F(AccessTest, a_key_has_an_owner) {
  const Access keys = access(std::string("# ours\n\nanna ") + kKey + "\n" + kOther + "  # no name\n");
  EXPECT_TRUE(keys.needs_key());
  EXPECT_EQ(keys.owner_of(with("authorization", std::string("Bearer ") + kKey)), "anna");
  EXPECT_EQ(keys.owner_of(with("authorization", std::string("Bearer ") + kOther)), "key-2");
  for (const char* wrong : {"Bearer ", "Bearer 0123456789abcdef-firs", "Basic 0123456789abcdef-first", "",
                            "Bearer 0123456789abcdef-first2"}) {
    EXPECT_FALSE(keys.owner_of(with("authorization", wrong))) << wrong;
  }
  EXPECT_FALSE(Access().needs_key());
}

TEST_F(AccessTest, a_session_stands_for_its_key_until_it_ends) {
  const Access keys = access(std::string("anna ") + kKey + "\n");
  const std::string cookie = keys.cookie("anna", now_s());
  EXPECT_THAT(cookie, HasSubstr("HttpOnly; SameSite=Strict"));
  EXPECT_EQ(cookie.find(kKey), std::string::npos);
  EXPECT_EQ(keys.owner_of(with("cookie", "a=b; " + sent_back(cookie) + "; c=d")), "anna");
  EXPECT_FALSE(keys.owner_of(with("cookie", sent_back(keys.cookie("anna", now_s() - 365 * 24 * 3600)))));
  std::string forged = sent_back(cookie);
  forged.replace(forged.find("anna"), 4, "ella");
  EXPECT_FALSE(keys.owner_of(with("cookie", forged)));
  EXPECT_FALSE(access(std::string("anna ") + kOther + "\n").owner_of(with("cookie", sent_back(cookie))));
}

TEST_F(AccessTest, says_what_is_wrong_with_the_file) {
  EXPECT_THAT(refusal("# nothing\n"), HasSubstr("holds no key"));
  EXPECT_THAT(refusal("short\n"), HasSubstr("line 1: a key has at least 16 characters"));
  EXPECT_THAT(refusal(std::string("a b ") + kKey), HasSubstr("NAME KEY"));
  EXPECT_THAT(refusal(std::string("a/b ") + kKey), HasSubstr("letters, digits"));
  EXPECT_THAT(refusal(std::string("a ") + kKey + "\na " + kOther), HasSubstr("line 2"));
  EXPECT_THAT(refusal(std::string("a ") + kKey + "\nb " + kKey), HasSubstr("line 2"));
  EXPECT_THROW(Access(folder_ / "missing"), Error);
}

TEST(SameSecret, compares_whole_texts) {
  EXPECT_TRUE(same_secret("", ""));
  EXPECT_TRUE(same_secret("abc", "abc"));
  for (const auto& [a, b] :
       {std::pair("abc", "abd"), {"abc", "ab"}, {"ab", "abc"}, {"abab", "ab"}, {"", "a"}, {"a", ""}}) {
    EXPECT_FALSE(same_secret(a, b)) << a << " " << b;
  }
}

}  // namespace
}  // namespace heartmula
