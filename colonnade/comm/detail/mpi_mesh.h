// colonnade/comm/detail/mpi_mesh.h
#pragma once

#include "colonnade/comm/detail/mesh.h"
#include "colonnade/comm/detail/mpi_port.h"
#include "colonnade/comm/detail/patience.h"
#include "colonnade/comm/detail/process_fates.h"
#include "colonnade/core/api.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// A mesh of the processes that mpirun started. MPI says nothing of a peer that
/// has failed or ended, so whoever waits looks now and then for its fate.
class COLONNADE_API MpiMesh final : public Mesh {
 public:
  MpiMesh(std::unique_ptr<MpiPort> port,
          std::shared_ptr<const ProcessFates> fates, Patience patience);

  std::string_view backend() const override { return "mpi"; }
  uint32_t tags() const override;
  bool is_open() const override { return port_ != nullptr; }
  void close() noexcept override;
  void abandon() noexcept override;
  void send(const void* from, size_t bytes, int peer, uint32_t tag) override;
  void recv(void* to, size_t bytes, int peer, uint32_t tag) override;
  Outcome wait(Clock::time_point deadline) override;
  void interrupt() noexcept override { interrupted_ = true; }

 private:
  struct Message {
    MpiPort::Request request;
    int peer;
    bool is_recv;
    bool done;
  };
  class Watch;

  bool is_done(Message& message);
  /// Whether no message from `first` on is under way, or something is broken.
  /// Moves `first` past those that are done.
  bool are_done(size_t& first);
  /// Those that still have messages under way, from message `first` on.
  std::vector<int> missing(size_t first);

  std::unique_ptr<MpiPort> port_;
  std::shared_ptr<const ProcessFates> fates_;
  Patience patience_;
  std::vector<Message> messages_;
  std::atomic<bool> interrupted_ = false;
  std::string broken_;  ///< What MPI said of an error; empty: none.
};

}  // namespace colonnade::detail
