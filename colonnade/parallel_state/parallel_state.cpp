// colonnade/parallel_state/parallel_state.cpp
#include "colonnade/parallel_state/parallel_state.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace colonnade::parallel_state {
namespace {

/// What initialize_model_parallel made.
struct Parallelism {
  Mesh mesh;
  GroupPtr world, tensor_model_parallel, data_parallel;
  bool own_world;  ///< Made here, since the thread had none.
};

/// The slot of this room in a RankContext.
struct ParallelState {
  std::optional<Parallelism> parallelism;
};

std::optional<Parallelism>& state() {
  return RankContext::current()->slot<ParallelState>().parallelism;
}

const Parallelism& initialized(std::string_view caller) {
  const std::optional<Parallelism>& parallelism = state();
  check_arg(parallelism.has_value(), caller,
            ": model parallel is not initialized on this rank; call "
            "initialize_model_parallel first");
  return *parallelism;
}

}  // namespace

void initialize_model_parallel(int64_t tensor_model_parallel_size) {
  std::optional<Parallelism>& parallelism = state();
  if (parallelism) {
    const Mesh& mesh = parallelism->mesh;
    throw InvalidArgument(
        concat("initialize_model_parallel: already initialized with ",
               "tensor_model_parallel_size ", mesh.tensor_model_parallel_size(),
               " in a world of size ", mesh.world_size(),
               "; call destroy_model_parallel first to change it to ",
               tensor_model_parallel_size));
  }

  RankContext& context = *RankContext::current();
  const bool own_world = context.world() == nullptr;
  const Mesh mesh(own_world ? 1 : context.world()->size(),
                  tensor_model_parallel_size);
  const WorldPtr world =
      own_world
          ? find_backend("self").make_local_worlds(1, kDefaultTimeout).front()
          : context.world();
  const auto make_group = [&](std::string_view name, const RankLists& groups,
                              int64_t place) {
    return world->make_group(std::string(name), groups[place]);
  };
  const int64_t rank = world->rank();
  Parallelism made{
      mesh,
      // The one tensor-parallel group of the largest size is everyone.
      make_group(kWorldGroup,
                 Mesh(mesh.world_size(), mesh.world_size())
                     .tensor_model_parallel_groups(),
                 0),
      make_group(kTensorModelParallelGroup, mesh.tensor_model_parallel_groups(),
                 mesh.data_parallel_rank(rank)),
      make_group(kDataParallelGroup, mesh.data_parallel_groups(),
                 mesh.tensor_model_parallel_rank(rank)),
      own_world};

  if (own_world) {
    context.set_world(world);
  }
  context.add_group(made.world);
  context.add_group(made.tensor_model_parallel);
  context.add_group(made.data_parallel);
  parallelism = std::move(made);
}

bool model_parallel_is_initialized() {
  return state().has_value();
}

void destroy_model_parallel() {
  std::optional<Parallelism>& parallelism = state();
  if (!parallelism) {
    return;
  }
  RankContext& context = *RankContext::current();
  context.remove_groups();
  if (parallelism->own_world) {
    context.set_world(nullptr);
  }
  parallelism.reset();
}

int64_t get_data_parallel_size() {
  return initialized("get_data_parallel_size").data_parallel->size();
}

int64_t get_data_parallel_rank() {
  return initialized("get_data_parallel_rank").data_parallel->rank();
}

int64_t get_tensor_model_parallel_size() {
  return initialized("get_tensor_model_parallel_size")
      .tensor_model_parallel->size();
}

int64_t get_tensor_model_parallel_rank() {
  return initialized("get_tensor_model_parallel_rank")
      .tensor_model_parallel->rank();
}

GroupPtr get_data_parallel_group() {
  return initialized("get_data_parallel_group").data_parallel;
}

GroupPtr get_tensor_model_parallel_group() {
  return initialized("get_tensor_model_parallel_group").tensor_model_parallel;
}

GroupPtr get_world_group() {
  return initialized("get_world_group").world;
}

GroupPtr new_group(std::string name, std::vector<int64_t> ranks) {
  const int64_t world_size = initialized("new_group").mesh.world_size();
  RankContext& context = *RankContext::current();
  check_arg(!name.empty(), "new_group: the name is empty; give it one");
  check_arg(context.find_group(name) == nullptr, "new_group: this rank has a ",
            "group named \"", name, "\" already; choose another name");
  check_arg(!ranks.empty(), "new_group: \"", name,
            "\" has no ranks; name at least one of the world");
  int64_t previous = -1;
  for (const int64_t rank : ranks) {
    check_arg(rank >= 0 && rank < world_size, "new_group: \"", name,
              "\" has rank ", rank, "; ranks of this world are in [0, ",
              world_size, ")");
    check_arg(rank > previous, "new_group: \"", name, "\" has rank ", rank,
              " after ", previous, "; give the ranks in ascending order");
    previous = rank;
  }
  if (!std::ranges::binary_search(ranks, context.world()->rank())) {
    return nullptr;
  }
  GroupPtr group =
      context.world()->make_group(std::move(name), std::move(ranks));
  context.add_group(group);
  return group;
}

RankLists get_data_parallel_group_as_list() {
  return initialized("get_data_parallel_group_as_list")
      .mesh.data_parallel_groups();
}

RankLists get_tensor_model_parallel_group_as_list() {
  return initialized("get_tensor_model_parallel_group_as_list")
      .mesh.tensor_model_parallel_groups();
}

int64_t get_tensor_model_parallel_src_rank() {
  return initialized("get_tensor_model_parallel_src_rank")
      .tensor_model_parallel->ranks()
      .front();
}

int64_t get_data_parallel_src_rank() {
  return initialized("get_data_parallel_src_rank")
      .data_parallel->ranks()
      .front();
}

}  // namespace colonnade::parallel_state
