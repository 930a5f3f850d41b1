// cli/launched_ranks.cpp
#include "cli/launched_ranks.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/launch/launch.h"
#include "colonnade/models/generate.h"
#include "colonnade/parallel_state/parallel_state.h"

namespace colonnade::cli {

void on_launched_ranks(std::optional<int64_t> tp,
                       const std::function<void(bool speaks)>& body) {
  if (launcher_name().empty()) {
    body(/*speaks=*/true);
    return;
  }
  launch([&](int rank) {
    parallel_state::initialize_model_parallel(
        tp.value_or(RankContext::current()->world()->size()));
    body(rank == 0);
  });
}

bool any_launched_rank(bool mine) {
  return parallel_state::model_parallel_is_initialized() ? any_rank(mine)
                                                         : mine;
}

}  // namespace colonnade::cli
