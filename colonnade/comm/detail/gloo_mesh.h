// colonnade/comm/detail/gloo_mesh.h
#pragma once

#include "colonnade/comm/rendezvous.h"

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace c10d {
class Backend;
class Work;
}  // namespace c10d

namespace colonnade::detail {

/// Connections between every two processes of a world, over TCP: messages from
/// rank to rank, in order among those of a tag. A message must be taken with
/// the size with which it was sent: Gloo ends the process where it is not.
class GlooMesh {
 public:
  /// A message on its way. Dropping it before it is complete gives up what it
  /// would read or write, and makes the mesh useless to this pair of ranks.
  class Transfer {
   public:
    explicit Transfer(c10::intrusive_ptr<c10d::Work> work);
    Transfer(Transfer&&) noexcept;
    Transfer& operator=(Transfer&&) noexcept;
    ~Transfer();

    /// Throws, with what Gloo says, where the peer's connection is closed or
    /// `limit` is over; after the latter all connections are.
    void wait(std::chrono::milliseconds limit);

   private:
    c10::intrusive_ptr<c10d::Work> work_;
  };

  /// Collective over all processes of the place. Connections are of the
  /// loopback interface where the processes share a host.
  explicit GlooMesh(const ProcessPlace& place);
  ~GlooMesh();
  GlooMesh(const GlooMesh&) = delete;
  GlooMesh& operator=(const GlooMesh&) = delete;

  bool is_open() const { return gloo_ != nullptr; }
  /// Closes all connections, which the peers notice. No transfer is left.
  void close() noexcept;

  Transfer send(const void* from, size_t bytes, int peer, uint32_t tag);
  Transfer recv(void* to, size_t bytes, int peer, uint32_t tag);

 private:
  c10::intrusive_ptr<c10d::Backend> gloo_;
};

}  // namespace colonnade::detail
