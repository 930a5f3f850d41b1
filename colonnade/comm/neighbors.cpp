// colonnade/comm/neighbors.cpp
#include "colonnade/comm/neighbors.h"

#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"

#include <unistd.h>

#include <fstream>

namespace colonnade {
namespace {

std::string cores_text() {
  std::string text;
  for (const int core : allowed_cores()) {
    text += concat(text.empty() ? "" : ",", core);
  }
  return text;
}

}  // namespace

std::string host_identity() {
  std::string name(256, '\0');
  gethostname(name.data(), name.size() - 1);
  name.resize(name.find('\0'));
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return name + '/' + boot;
}

Neighbors meet_neighbors(const ProcessPlace& place) {
  Rendezvous& rendezvous = *place.rendezvous;
  const std::string mine = place.host + '\n' + cores_text();
  rendezvous.set(concat("place/", place.rank), mine);
  Neighbors result;
  for (int rank = 0; rank < place.size; ++rank) {
    const std::string other =
        rank == place.rank
            ? mine
            : rendezvous.get(concat("place/", rank), place.timeout);
    result.one_host &= other.substr(0, other.find('\n')) == place.host;
    if (other == mine) {
      ++result.sharing;
      result.index_in_share += rank < place.rank ? 1 : 0;
    }
  }
  return result;
}

const Backend& fitting_backend(const Neighbors& neighbors) {
  const Backend& shm = find_backend("shm");
  return neighbors.one_host && shm.why_not().empty() ? shm
                                                     : find_backend("gloo");
}

}  // namespace colonnade
