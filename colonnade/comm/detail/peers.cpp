// colonnade/comm/detail/peers.cpp
#include "colonnade/comm/detail/peers.h"

#include "colonnade/core/error.h"

#include <unistd.h>

#include <cstdint>
#include <sstream>
#include <utility>

namespace colonnade::detail {

Peers::Peers(const ProcessPlace& place) {
  Rendezvous& rendezvous = *place.rendezvous;
  const auto name_of = [](int rank) { return concat("process/", rank); };
  rendezvous.set(
      name_of(place.rank),
      concat(getpid(), ' ', HostProcess::start_of(getpid()), ' ', place.host));
  for (int rank = 0; rank < place.size; ++rank) {
    std::istringstream fields(rendezvous.get(name_of(rank), place.timeout));
    Peer peer;
    uint64_t start = 0;
    fields >> peer.pid >> start >> std::ws;
    std::string host;
    std::getline(fields, host, '\0');
    const bool here = host == place.host;
    share_host_ &= here;
    peer.host = host.substr(0, host.find('/'));
    // Not where a container has process numbers of its own.
    peer.visible =
        here && rank != place.rank && HostProcess::start_of(peer.pid) == start;
    if (peer.visible) {
      peer.process = HostProcess(peer.pid, start);
    }
    peers_.push_back(std::move(peer));
  }
}

bool Peers::has_ended(int rank) const {
  return peer(rank).visible && !peer(rank).process.lives();
}

std::string Peers::how_it_ended(int rank) const {
  const std::string how = peer(rank).process.how_it_ended();
  return how.empty() ? "its process crashed or was killed"
                     : "its process died" + how;
}

bool Peers::is_stopped(int rank) const {
  return peer(rank).visible && peer(rank).process.is_stopped();
}

std::string Peers::name(int rank) const {
  return concat("rank ", rank, " (host ", peer(rank).host, ", process ",
                peer(rank).pid, ')');
}

}  // namespace colonnade::detail
