// cli/launched_ranks.cpp
#include "cli/launched_ranks.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/models/generate.h"
#include "colonnade/parallel_state/parallel_state.h"

namespace colonnade::cli {
namespace {

bool can_be_threads(const std::string& backend) {
  return backend.empty() || find_backend(backend).make_local_worlds != nullptr;
}

}  // namespace

void on_launched_ranks(std::optional<int64_t> tp, const std::string& backend,
                       const std::function<void(bool speaks)>& body) {
  if (launcher_name().empty()) {
    check_arg(tp == 1 || can_be_threads(backend), "--backend ", backend,
              ": its ranks are processes, and no launcher started more than "
              "this one; start them with mpirun, torchrun or srun");
    body(/*speaks=*/true);
    return;
  }
  LaunchOptions options;
  options.backend = backend;
  launch(
      [&](int rank) {
        parallel_state::initialize_model_parallel(
            tp.value_or(RankContext::current()->world()->size()));
        body(rank == 0);
      },
      options);
}

LaunchOptions own_ranks(const std::string& backend) {
  LaunchOptions options;
  options.backend = can_be_threads(backend) ? backend : "";
  return options;
}

bool any_launched_rank(bool mine) {
  return parallel_state::model_parallel_is_initialized() ? any_rank(mine)
                                                         : mine;
}

}  // namespace colonnade::cli
