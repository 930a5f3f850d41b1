// colonnade/comm/detail/gloo_mesh.h
#pragma once

#include "colonnade/comm/detail/mesh.h"
#include "colonnade/comm/rendezvous.h"

#include <c10/util/intrusive_ptr.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace c10d {
class Backend;
class Work;
}  // namespace c10d

namespace colonnade::detail {

/// A mesh of TCP connections, by Gloo, which ends the process where a message
/// is not taken with its size.
class GlooMesh final : public Mesh {
 public:
  /// Collective over all processes of the place.
  ///
  /// local  whether they share a host: connections are of its loopback
  ///        interface then, else with a limit to silence
  GlooMesh(const ProcessPlace& place, bool local);
  ~GlooMesh() override;
  GlooMesh(const GlooMesh&) = delete;
  GlooMesh& operator=(const GlooMesh&) = delete;

  std::string_view backend() const override { return "gloo"; }
  /// At which the others reach this host.
  const std::string& address() const { return address_; }
  /// c10d takes no negative ones.
  uint32_t tags() const override { return uint32_t{1} << 31; }
  bool is_open() const override { return gloo_ != nullptr; }
  // Both close the connections, which the peers notice.
  void close() noexcept override;
  void abandon() noexcept override;
  void send(const void* from, size_t bytes, int peer, uint32_t tag) override;
  void recv(void* to, size_t bytes, int peer, uint32_t tag) override;
  Outcome wait(Clock::time_point deadline) override;
  std::optional<int> find_silent(Clock::time_point deadline) override;
  void interrupt() noexcept override;

 private:
  struct Transfer {
    c10::intrusive_ptr<c10d::Work> work;
    int peer;
  };

  /// So that no peer finds a connection closed that it is about to use.
  void wait_until_all_connected() noexcept;
  Outcome late(size_t first);
  /// Notes for `interrupt` what this thread waits for now; null: nothing.
  /// Returns whether it may.
  bool set_waited(c10d::Work* work);

  std::shared_ptr<Rendezvous> rendezvous_;
  int size_;
  bool local_;
  std::string address_;
  c10::intrusive_ptr<c10d::Backend> gloo_;
  std::vector<Transfer> transfers_;
  std::mutex waited_mutex_;
  c10d::Work* waited_ = nullptr;
  bool interrupted_ = false;
};

}  // namespace colonnade::detail
