// colonnade/comm/detail/mpi_port.cpp
//
// All of the module libcolonnade_mpi.so. It includes nothing of ours that
// would have to be linked, and libcolonnade.so does not know of libmpi.
#include "colonnade/comm/detail/mpi_port.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace colonnade::detail {
namespace {

/// Whether this process may wait for the others at its end.
bool may_finalize = false;

void finalize_at_exit() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (may_finalize && finalized == 0) {
    MPI_Finalize();
  }
}

std::string text_of(const char* call, int code) {
  if (code == MPI_SUCCESS) {
    return {};
  }
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(call) + ": " + text;
}

std::string library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string version(text);
  version.resize(std::min(version.find_first_of(",\n"), version.size()));
  std::replace(version.begin(), version.end(), '\t', ' ');  // MPICH's
  return version;
}

/// Why MPI cannot be used; empty where it can.
std::string initialize() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) {
    return "the program has finalized MPI; let it do so after its last rank";
  }
  int initialized = 0;
  int granted = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialized);
  if (initialized == 0) {
    const int code =
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &granted);
    if (code != MPI_SUCCESS) {
      return text_of("MPI_Init_thread", code);
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    std::atexit(finalize_at_exit);
  } else {
    MPI_Query_thread(&granted);
  }
  // Backward may run on a thread of autograd's.
  if (granted < MPI_THREAD_SERIALIZED) {
    return library_version() +
           " lets only one thread use it; initialize it with "
           "MPI_Init_thread and MPI_THREAD_MULTIPLE";
  }
  return {};
}

class Port final : public MpiPort {
 public:
  explicit Port(MPI_Comm all) : all_(all) {}

  int last_tag() const override {
    void* value = nullptr;
    int is_set = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &value, &is_set);
    return is_set != 0 ? *static_cast<const int*>(value) : 32767;
  }

  std::string send(const void* from, int bytes, int peer, int tag,
                   Request& request) noexcept override {
    MPI_Request made = MPI_REQUEST_NULL;
    const int code = MPI_Isend(from, bytes, MPI_BYTE, peer, tag, all_, &made);
    request = pack(made);
    return text_of("MPI_Isend", code);
  }

  std::string recv(void* to, int bytes, int peer, int tag,
                   Request& request) noexcept override {
    MPI_Request made = MPI_REQUEST_NULL;
    const int code = MPI_Irecv(to, bytes, MPI_BYTE, peer, tag, all_, &made);
    request = pack(made);
    return text_of("MPI_Irecv", code);
  }

  std::string test(Request& request, bool& done) noexcept override {
    MPI_Request made = unpack(request);
    int is_done = 0;
    const int code = MPI_Test(&made, &is_done, MPI_STATUS_IGNORE);
    request = pack(made);
    done = is_done != 0;
    return text_of("MPI_Test", code);
  }

  void cancel(Request& request) noexcept override {
    MPI_Request made = unpack(request);
    if (made != MPI_REQUEST_NULL) {
      MPI_Cancel(&made);
    }
  }

  void close() noexcept override { may_finalize = true; }

 private:
  static_assert(sizeof(MPI_Request) <= sizeof(Request));

  static Request pack(MPI_Request request) {
    Request packed = 0;
    std::memcpy(&packed, &request, sizeof(request));
    return packed;
  }
  static MPI_Request unpack(Request packed) {
    MPI_Request request;
    std::memcpy(&request, &packed, sizeof(request));
    return request;
  }

  // Not freed, for that is collective.
  MPI_Comm all_;
};

std::unique_ptr<MpiPort> open_mpi(int rank, int size, std::string& error) {
  error = initialize();
  if (!error.empty()) {
    return nullptr;
  }
  int mpi_rank = 0;
  int mpi_size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &mpi_size);
  // A process that the launcher of another MPI started is alone.
  may_finalize = mpi_size == 1;
  if (mpi_rank != rank || mpi_size != size) {
    error = library_version() + " takes this process for rank " +
            std::to_string(mpi_rank) + " of " + std::to_string(mpi_size) +
            ", but it is rank " + std::to_string(rank) + " of " +
            std::to_string(size) +
            "; start the ranks with the mpirun of this MPI";
    return nullptr;
  }
  MPI_Comm all = MPI_COMM_NULL;
  error = text_of("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &all));
  if (!error.empty()) {
    return nullptr;
  }
  MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN);
  return std::make_unique<Port>(all);
}

}  // namespace
}  // namespace colonnade::detail

extern "C" {
[[gnu::visibility(
    "default")]] extern const colonnade::detail::OpenMpiPort colonnade_open_mpi;
const colonnade::detail::OpenMpiPort colonnade_open_mpi =
    colonnade::detail::open_mpi;
}
