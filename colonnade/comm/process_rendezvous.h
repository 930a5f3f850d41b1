// colonnade/comm/process_rendezvous.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/api.h"

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace c10d {
class Store;
}  // namespace c10d

namespace colonnade {

/// A store of c10d's that listens at a TCP address, such as torchrun's.
struct TcpStore {
  std::string host;
  uint16_t port = 0;
  /// Whether this process is the one that serves it, for as long as the
  /// rendezvous lives.
  bool serve = false;
  /// Before every name, so that a store may serve several worlds.
  std::string prefix = {};
};

/// Errors  CommError where the store cannot be had within `timeout`
COLONNADE_API std::shared_ptr<Rendezvous> tcp_rendezvous(
    const TcpStore& store, std::chrono::milliseconds timeout);

/// A store that torch.distributed has made; `prefix` comes before every name.
COLONNADE_API std::shared_ptr<Rendezvous> store_rendezvous(
    c10::intrusive_ptr<c10d::Store> store, std::string prefix = {});

/// A file that all processes see and can lock. It must not be of a run before;
/// it is removed when all `size` processes have let go of it.
///
/// Errors  CommError where the file cannot be opened, or is somebody else's
COLONNADE_API std::shared_ptr<Rendezvous> file_rendezvous(
    const std::string& path, int size, std::string prefix = {});

}  // namespace colonnade
