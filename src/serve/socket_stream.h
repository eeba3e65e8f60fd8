// A connection as the HTTP library reads and writes it, with an end to every patience: for one request.
#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstddef>

namespace heartmula {

/// What a client may take its time for.
struct ConnectionPatience {
  std::chrono::seconds headers{20};  // from the first moment to the empty line
  std::chrono::seconds body{120};    // all of it
  std::chrono::seconds silence{10};  // that reads or takes nothing
  size_t header_bytes = size_t{64} << 10;
};

class SocketStream final : public httplib::Stream {
 public:
  /// Does not own the socket.
  SocketStream(socket_t socket, const ConnectionPatience& patience);

  bool is_readable() const override;
  /// False, too, once the client is gone.
  bool is_writable() const override;
  /// -1 where patience or room for headers ends.
  ssize_t read(char* data, size_t size) override;
  ssize_t write(const char* data, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  using Clock = std::chrono::steady_clock;

  bool fill();
  void count_header(char c);

  socket_t socket_;
  ConnectionPatience patience_;
  Clock::time_point begin_ = Clock::now();  // of headers, or of the body
  bool in_headers_ = true;
  size_t header_bytes_ = 0;
  int line_length_ = 0;  // so far, without its end
  std::array<char, 4096> buffer_{};
  size_t from_ = 0;
  size_t to_ = 0;
};

}  // namespace heartmula
