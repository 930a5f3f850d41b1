// colonnade/comm/neighbors.cpp
#include "colonnade/comm/neighbors.h"

#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

namespace colonnade {
namespace {

std::string cores_text() {
  std::string text;
  for (const int core : allowed_cores()) {
    text += concat(text.empty() ? "" : ",", core);
  }
  return text;
}

std::string why_not(std::string_view name) {
  for (const Backend& backend : backends()) {
    if (backend.name == name) {
      return backend.make_process_world == nullptr
                 ? "its ranks are threads, or this build lacks it"
                 : backend.why_not();
    }
  }
  return "there is none of that name";
}

/// One line of text.
std::string line_of(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text + '\n';
}

/// What a process tells the others of itself, as lines.
struct Introduction {
  std::string host;
  std::string cores;
  std::string candidates;
  std::vector<std::string> why_not;  ///< By candidate; empty where it can.

  std::string text() const {
    std::string lines = line_of(host) + line_of(cores) + line_of(candidates);
    for (const std::string& reason : why_not) {
      lines += line_of(reason);
    }
    return lines;
  }
};

Introduction introduce(const ProcessPlace& place,
                       std::span<const std::string_view> candidates) {
  Introduction mine{.host = place.host,
                    .cores = cores_text(),
                    .candidates = {},
                    .why_not = {}};
  for (const std::string_view name : candidates) {
    mine.candidates += concat(mine.candidates.empty() ? "" : ", ", name);
    mine.why_not.push_back(why_not(name));
  }
  return mine;
}

Introduction read(const std::string& text) {
  std::istringstream lines(text);
  Introduction result;
  std::getline(lines, result.host);
  std::getline(lines, result.cores);
  std::getline(lines, result.candidates);
  for (std::string reason; std::getline(lines, reason);) {
    result.why_not.push_back(reason);
  }
  return result;
}

/// Which process numbers this process sees.
std::string process_namespace() {
  std::string name(64, '\0');
  const ssize_t length =
      readlink("/proc/self/ns/pid", name.data(), name.size());
  name.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return name;
}

}  // namespace

std::string host_identity() {
  std::string name(256, '\0');
  gethostname(name.data(), name.size() - 1);
  name.resize(name.find('\0'));
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return concat(name, '/', boot, '/', process_namespace());
}

Neighbors meet_neighbors(const ProcessPlace& place,
                         std::span<const std::string_view> candidates) {
  Rendezvous& rendezvous = *place.rendezvous;
  const auto name_of = [](int rank) { return concat("place/", rank); };
  const Introduction mine = introduce(place, candidates);
  rendezvous.set(name_of(place.rank), mine.text());
  Neighbors result;
  std::vector<std::string> why_not(candidates.size());
  std::string first_candidates;
  for (int rank = 0; rank < place.size; ++rank) {
    const Introduction other =
        rank == place.rank ? mine
                           : read(rendezvous.get(name_of(rank), place.timeout));
    result.one_host &= other.host == mine.host;
    if (other.host == mine.host && other.cores == mine.cores) {
      ++result.sharing;
      result.index_in_share += rank < place.rank ? 1 : 0;
    }
    if (rank == 0) {
      first_candidates = other.candidates;
    }
    check_arg(other.candidates == first_candidates,
              "backend: rank 0 is to use ", first_candidates, " and rank ",
              rank, ' ', other.candidates,
              "; name the same on all ranks, or on none, in COLONNADE_BACKEND "
              "or where the program takes it");
    for (size_t i = 0; i < why_not.size(); ++i) {
      if (why_not[i].empty() && !other.why_not[i].empty()) {
        why_not[i] = concat("rank ", rank, ": ", other.why_not[i]);
      }
    }
  }
  for (size_t i = why_not.size(); i-- > 0;) {
    if (why_not[i].empty() && (result.one_host || candidates[i] != "shm")) {
      result.backend = &find_backend(candidates[i]);
    }
  }
  result.why_not_first = why_not.front();
  return result;
}

}  // namespace colonnade
