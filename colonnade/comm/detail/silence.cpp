// colonnade/comm/detail/silence.cpp
#include "colonnade/comm/detail/silence.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <string>
#include <system_error>

namespace colonnade::detail {
namespace {

/// The TCP sockets of this process that are connected.
std::set<int> connections() {
  std::set<int> found;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const std::string name = entry.path().filename().string();
    int file = -1;
    std::from_chars(name.data(), name.data() + name.size(), file);
    int protocol = 0;
    socklen_t size = sizeof(protocol);
    sockaddr_storage peer{};
    socklen_t peer_size = sizeof(peer);
    if (getsockopt(file, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
        protocol == IPPROTO_TCP &&
        getpeername(file, reinterpret_cast<sockaddr*>(&peer), &peer_size) ==
            0) {
      found.insert(file);
    }
  }
  return found;
}

void set(int socket, int level, int option, int value) {
  // One that has gone meanwhile needs no limit.
  static_cast<void>(setsockopt(socket, level, option, &value, sizeof(value)));
}

}  // namespace

NewConnections::NewConnections() : before_(connections()) {}

void NewConnections::limit_silence() const {
  constexpr int kSeconds = kLongestSilence.count();
  for (const int socket : connections()) {
    if (before_.count(socket) == 0) {
      set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
      set(socket, IPPROTO_TCP, TCP_KEEPIDLE, kSeconds / 3);
      set(socket, IPPROTO_TCP, TCP_KEEPINTVL, 1);
      set(socket, IPPROTO_TCP, TCP_KEEPCNT, kSeconds - kSeconds / 3);
      set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, 1000 * kSeconds);
    }
  }
}

std::string NewConnections::own_address() const {
  for (const int socket : connections()) {
    sockaddr_storage own{};
    socklen_t size = sizeof(own);
    auto* const bytes = reinterpret_cast<sockaddr*>(&own);
    std::array<char, NI_MAXHOST> host{};
    if (before_.count(socket) == 0 && getsockname(socket, bytes, &size) == 0 &&
        getnameinfo(bytes, size, host.data(), host.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0) {
      return host.data();
    }
  }
  return {};
}

}  // namespace colonnade::detail
