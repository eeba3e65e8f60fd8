#include "serve/socket_stream.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace heartmula {
namespace {

using std::chrono::milliseconds;

// Whether the socket is ready for `events` within the time.
bool wait_for(socket_t socket, short events, milliseconds patience) {
  pollfd one = {.fd = socket, .events = events, .revents = 0};
  for (;;) {
    const int ready = ::poll(&one, 1, static_cast<int>(std::max<int64_t>(patience.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0;
  }
}

void name_of(const sockaddr_storage& address, std::string& ip, int& port) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    sockaddr_in four = {};
    std::memcpy(&four, &address, sizeof(four));
    ::inet_ntop(AF_INET, &four.sin_addr, text.data(), text.size());
    port = ntohs(four.sin_port);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 six = {};
    std::memcpy(&six, &address, sizeof(six));
    ::inet_ntop(AF_INET6, &six.sin6_addr, text.data(), text.size());
    port = ntohs(six.sin6_port);
  }
  ip = text.data();
}

}  // namespace

SocketStream::SocketStream(socket_t socket, const ConnectionPatience& patience)
    : socket_(socket), patience_(patience) {}

bool SocketStream::is_readable() const {
  return from_ < to_ || wait_for(socket_, POLLIN, patience_.silence);
}

bool SocketStream::is_writable() const {
  if (!wait_for(socket_, POLLOUT, patience_.silence)) return false;
  char byte = 0;
  const ssize_t peeked = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return peeked > 0 || (peeked < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

// More bytes from the network; false where there are none, or not in time.
bool SocketStream::fill() {
  const auto until = begin_ + (in_headers_ ? patience_.headers : patience_.body);
  const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
  if (!wait_for(socket_, POLLIN, std::min<milliseconds>(left, patience_.silence))) return false;
  ssize_t count = 0;
  do {
    count = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
  } while (count < 0 && errno == EINTR);
  from_ = 0;
  to_ = count > 0 ? static_cast<size_t>(count) : 0;
  return count > 0;
}

// Headers end with an empty line.
void SocketStream::count_header(char c) {
  ++header_bytes_;
  if (c == '\n') {
    const bool is_empty = line_length_ == 0;
    line_length_ = 0;
    if (!is_empty) return;
    in_headers_ = false;
    begin_ = Clock::now();
  } else if (c != '\r') {
    ++line_length_;
  }
}

ssize_t SocketStream::read(char* data, size_t size) {
  if (in_headers_ && header_bytes_ >= patience_.header_bytes) return -1;
  if (from_ == to_ && !fill()) return -1;
  const size_t count = std::min(size, to_ - from_);
  std::memcpy(data, buffer_.data() + from_, count);
  from_ += count;
  for (size_t i = 0; in_headers_ && i < count; ++i) count_header(data[i]);
  return static_cast<ssize_t>(count);
}

ssize_t SocketStream::write(const char* data, size_t size) {
  if (!wait_for(socket_, POLLOUT, patience_.silence)) return -1;
  for (;;) {
    const ssize_t count = ::send(socket_, data, size, MSG_NOSIGNAL);
    if (count >= 0 || errno != EINTR) return count;
  }
}

void SocketStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0) name_of(address, ip, port);
}

void SocketStream::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0) name_of(address, ip, port);
}

}  // namespace heartmula
