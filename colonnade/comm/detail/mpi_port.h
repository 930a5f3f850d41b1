// colonnade/comm/detail/mpi_port.h
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace colonnade::detail {

/// What MpiMesh needs of libmpi: a communicator of its own. It is brought by
/// the module libcolonnade_mpi.so, so that nothing else links libmpi; so it has
/// no type of MPI's, and nothing throws. A text that is returned is what MPI
/// says of an error, and empty where all went well.
class MpiPort {
 public:
  /// A message under way: an MPI_Request, which is an int or a pointer.
  using Request = std::intptr_t;

  virtual ~MpiPort() = default;

  /// The largest tag.
  virtual int last_tag() const = 0;
  virtual std::string send(const void* from, int bytes, int peer, int tag,
                           Request& request) noexcept = 0;
  virtual std::string recv(void* to, int bytes, int peer, int tag,
                           Request& request) noexcept = 0;
  /// Sets `done`, and ends the request where it is. Never waits.
  virtual std::string test(Request& request, bool& done) noexcept = 0;
  /// For a message that nobody may send any more; `test` it afterwards.
  virtual void cancel(Request& request) noexcept = 0;

  /// This process has no message under way and starts none. Without this, it
  /// does not finalize MPI when it ends, since that would wait for the others.
  virtual void close() noexcept = 0;
};

/// The function `colonnade_open_mpi` of the module: initialises MPI unless the
/// program did, and makes a communicator of all processes. Collective over
/// them, if it finds `rank` and `size`; else null, with `error` set.
using OpenMpiPort = std::unique_ptr<MpiPort> (*)(int rank, int size,
                                                 std::string& error);

}  // namespace colonnade::detail
