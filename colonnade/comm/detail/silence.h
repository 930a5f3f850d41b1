// colonnade/comm/detail/silence.h
#pragma once

#include <chrono>
#include <set>
#include <string>

namespace colonnade::detail {

/// How long nothing need be heard of another host until it is lost. The systems
/// of both hosts talk below the processes, which may be as slow as they like.
constexpr std::chrono::seconds kLongestSilence{10};

/// The TCP connections that this process makes while it lives: those of a
/// library that does not show its sockets.
class NewConnections {
 public:
  NewConnections();
  /// Has the system probe them when they are idle, and end them where the other
  /// host says nothing for kLongestSilence, with ETIMEDOUT or its like.
  void limit_silence() const;
  /// The address of this host that they use; empty where there are none.
  std::string own_address() const;

 private:
  std::set<int> before_;  ///< Sockets that were open.
};

}  // namespace colonnade::detail
