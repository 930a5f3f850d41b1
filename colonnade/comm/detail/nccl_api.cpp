// colonnade/comm/detail/nccl_api.cpp
#include "colonnade/comm/detail/nccl_api.h"

#include "colonnade/core/error.h"

#include <dlfcn.h>

namespace colonnade::detail::nccl {
namespace {

constexpr char kFile[] = "libnccl.so.2";

class Loader {
 public:
  // Not closed again: its threads would be left without code.
  Loader() : file_(dlopen(kFile, RTLD_NOW | RTLD_LOCAL)) {
    if (file_ == nullptr) {
      why_not_ =
          concat(kFile, " cannot be loaded: ", dlerror(),
                 "; load torch's CUDA libraries first, which bring it, or "
                 "install it (PyPI: nvidia-nccl-cu13)");
    }
  }

  template <typename Function>
  void find(Function*& function, const char* name) {
    if (file_ == nullptr) {
      return;
    }
    function = reinterpret_cast<Function*>(dlsym(file_, name));
    if (function == nullptr && why_not_.empty()) {
      why_not_ =
          concat(kFile, " has no ", name, "; release 2.14 or later is needed");
    }
  }

  const std::string& why_not() const { return why_not_; }

 private:
  void* file_;
  std::string why_not_;
};

Library load() {
  Loader loader;
  Library library;
  Api& api = library.api;
  loader.find(api.get_unique_id, "ncclGetUniqueId");
  loader.find(api.comm_init_rank_config, "ncclCommInitRankConfig");
  loader.find(api.comm_finalize, "ncclCommFinalize");
  loader.find(api.comm_destroy, "ncclCommDestroy");
  loader.find(api.comm_abort, "ncclCommAbort");
  loader.find(api.comm_get_async_error, "ncclCommGetAsyncError");
  loader.find(api.get_error_string, "ncclGetErrorString");
  loader.find(api.get_last_error, "ncclGetLastError");
  loader.find(api.all_reduce, "ncclAllReduce");
  loader.find(api.broadcast, "ncclBroadcast");
  loader.find(api.all_gather, "ncclAllGather");
  loader.find(api.reduce_scatter, "ncclReduceScatter");
  loader.find(api.send, "ncclSend");
  loader.find(api.recv, "ncclRecv");
  loader.find(api.group_start, "ncclGroupStart");
  loader.find(api.group_end, "ncclGroupEnd");
  library.why_not = loader.why_not();
  return library;
}

}  // namespace

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

}  // namespace colonnade::detail::nccl
