// colonnade/comm/detail/peers.h
#pragma once

#include "colonnade/comm/detail/host_process.h"
#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/api.h"

#include <chrono>
#include <string>
#include <vector>

namespace colonnade::detail {

/// The processes of a world, as each introduced itself at the rendezvous.
class COLONNADE_API Peers {
 public:
  /// Collective over all processes of the place.
  explicit Peers(const ProcessPlace& place);

  int size() const { return static_cast<int>(peers_.size()); }
  bool share_host() const { return share_host_; }
  /// Whether this process sees that of `rank`, another one of this host.
  bool sees(int rank) const { return peer(rank).visible; }
  /// Whether the process of `rank`, on this host, has ended. False where that
  /// cannot be seen.
  bool has_ended(int rank) const;
  /// "its process died (signal 9)", as far as that can be seen.
  std::string how_it_ended(int rank) const;
  /// Whether a signal has stopped it, likewise.
  bool is_stopped(int rank) const;
  /// "rank 3 (host a, process 812)".
  std::string name(int rank) const;

 private:
  struct Peer {
    std::string host;  ///< Its name, for people.
    pid_t pid = 0;
    bool visible = false;  ///< Here, and not this process itself.
    HostProcess process = {};
  };
  const Peer& peer(int rank) const { return peers_[static_cast<size_t>(rank)]; }

  std::vector<Peer> peers_;
  bool share_host_ = true;
};

}  // namespace colonnade::detail
