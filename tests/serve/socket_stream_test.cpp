#include "serve/socket_stream.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>

namespace heartmula {
namespace {

using namespace std::chrono_literals;

class SocketStreamTest : public testing::Test {
 protected:
  SocketStreamTest() { ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_.data()); }
  ~SocketStreamTest() override {
    hang_up();
    ::close(ends_[1]);
  }

  void send(const std::string& text) const { ::send(ends_[0], text.data(), text.size(), MSG_NOSIGNAL); }
  void hang_up() {
    if (ends_[0] >= 0) ::close(ends_[0]);
    ends_[0] = -1;
  }
  SocketStream stream(const ConnectionPatience& patience = {}) const { return SocketStream(ends_[1], patience); }

  // Until nothing more comes.
  static std::string read_all(SocketStream& stream) {
    std::string text;
    std::array<char, 7> piece{};
    for (;;) {
      const ssize_t count = stream.read(piece.data(), piece.size());
      if (count <= 0) return text;
      text.append(piece.data(), static_cast<size_t>(count));
    }
  }

  std::array<int, 2> ends_{-1, -1};
};

TEST_F(SocketStreamTest, reads_what_was_sent_and_writes_back) {
  SocketStream connection = stream();
  send("GET / HTTP/1.1\r\n\r\nbody");
  ASSERT_TRUE(connection.is_readable());
  ASSERT_TRUE(connection.is_writable());
  EXPECT_EQ(connection.write("hello", 5), 5);
  std::array<char, 5> answer{};
  EXPECT_EQ(::recv(ends_[0], answer.data(), answer.size(), 0), 5);
  hang_up();
  EXPECT_EQ(read_all(connection), "GET / HTTP/1.1\r\n\r\nbody");
  EXPECT_FALSE(connection.is_writable());
}

TEST_F(SocketStreamTest, headers_have_a_limit_and_the_body_has_none_here) {
  SocketStream endless = stream({.header_bytes = 100});
  send("GET / HTTP/1.1\r\nX: " + std::string(500, 'a'));
  EXPECT_LT(read_all(endless).size(), 110u);
}

TEST_F(SocketStreamTest, an_empty_line_ends_the_headers) {
  SocketStream connection = stream({.header_bytes = 30});
  send("GET / HTTP/1.1\r\n\r\n" + std::string(500, 'a'));
  hang_up();
  EXPECT_EQ(read_all(connection).size(), 518u);
}

TEST_F(SocketStreamTest, a_client_that_sends_a_byte_now_and_then_is_given_up) {
  SocketStream connection = stream({.headers = 1s, .silence = 1s});
  std::atomic<bool> stop{false};
  std::thread client([&] {
    while (!stop) {
      send("a");
      std::this_thread::sleep_for(20ms);
    }
  });
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(read_all(connection).empty());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  stop = true;
  client.join();
}

TEST_F(SocketStreamTest, a_silent_client_is_given_up) {
  SocketStream connection = stream({.silence = 0s});
  EXPECT_EQ(read_all(connection), "");
}

}  // namespace
}  // namespace heartmula
