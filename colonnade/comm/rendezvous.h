// colonnade/comm/rendezvous.h
#pragma once

#include "colonnade/core/api.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace colonnade {

/// Where processes that are to be ranks of one world find each other: short
/// strings by name, which all of them see. Used to set up, not to compute.
class COLONNADE_API Rendezvous {
 public:
  virtual ~Rendezvous();

  /// Sets a name once for all; nobody sets it again.
  virtual void set(const std::string& name, std::string_view value) = 0;
  /// Waits until the name is set. CommError, with the name, after `timeout`.
  virtual std::string get(const std::string& name,
                          std::chrono::milliseconds timeout) = 0;
};

/// A process that is to be a rank: what a launcher says of it.
struct ProcessPlace {
  int rank = 0;
  int size = 1;
  std::string host;  ///< Equal on processes of one host, and only there.
  std::shared_ptr<Rendezvous> rendezvous;
  std::chrono::milliseconds timeout{};  ///< What groups start with.
  /// The network interface to use between hosts; empty: that of the host name.
  std::string network = {};
  /// Ranks, with this one, that may run on just its cores; 0: unknown.
  int sharing = 0;

  /// How many ranks wait for each other on this one's cores.
  int waiters() const { return sharing > 0 ? sharing : size; }
};

}  // namespace colonnade
