// colonnade/parallel_layers/detail/resolve_group.cpp
#include "colonnade/parallel_layers/detail/resolve_group.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"

namespace colonnade::parallel_layers::detail {

GroupPtr resolve_group(const GroupPtr& group, std::string_view subject) {
  const RankContextPtr& context = RankContext::current();
  if (group == nullptr) {
    GroupPtr tp =
        context->find_group(parallel_state::kTensorModelParallelGroup);
    check_arg(tp != nullptr, subject,
              ": there is no tensor-parallel group yet; call "
              "parallel_state::initialize_model_parallel first");
    return tp;
  }
  check_arg(context->find_group(group->name()) == group, subject,
            ": the group \"", group->name(),
            "\" is not one of this rank's; make it with "
            "parallel_state::new_group, on the thread of its rank");
  return group;
}

}  // namespace colonnade::parallel_layers::detail
