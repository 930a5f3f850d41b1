// colonnade/parallel_state/parallel_state.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"
#include "colonnade/parallel_state/mesh.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::parallel_state {

/// The names of the groups in dispatcher ops and messages.
inline constexpr std::string_view kTensorModelParallelGroup = "tp";
inline constexpr std::string_view kDataParallelGroup = "dp";
inline constexpr std::string_view kWorldGroup = "world";

/// Divides this rank's world into tensor-parallel groups of neighbours, and
/// data-parallel groups of the ranks at one place of each. Collective. Outside
/// a rank the world is this thread alone.
///
/// Errors  InvalidArgument where the size is below 1 or does not divide the
///         world size: the message has both numbers and how to start ranks;
///         and at a second call
COLONNADE_API void initialize_model_parallel(
    int64_t tensor_model_parallel_size = 1);

COLONNADE_API bool model_parallel_is_initialized();

/// Forgets the groups; `initialize_model_parallel` may be called again. Does
/// nothing where it was not called.
COLONNADE_API void destroy_model_parallel();

// Before initialize_model_parallel each of these is an InvalidArgument.
COLONNADE_API int64_t get_data_parallel_size();
COLONNADE_API int64_t get_data_parallel_rank();
COLONNADE_API int64_t get_tensor_model_parallel_size();
COLONNADE_API int64_t get_tensor_model_parallel_rank();

COLONNADE_API GroupPtr get_data_parallel_group();
COLONNADE_API GroupPtr get_tensor_model_parallel_group();
COLONNADE_API GroupPtr get_world_group();

/// Makes a further group of this world's `ranks` (ascending), under a name of
/// its own, for layers that split over other ranks than "tp". Every member
/// calls it; a rank that is not a member gets null. Lives until
/// destroy_model_parallel.
///
/// Errors  InvalidArgument where the name is empty or taken on this rank, or
///         `ranks` are none, not ascending or not of the world
COLONNADE_API GroupPtr new_group(std::string name, std::vector<int64_t> ranks);

/// The world ranks of every group of the kind, not only of this rank's.
COLONNADE_API RankLists get_data_parallel_group_as_list();
COLONNADE_API RankLists get_tensor_model_parallel_group_as_list();

/// The world rank of the first member of this rank's group.
COLONNADE_API int64_t get_tensor_model_parallel_src_rank();
COLONNADE_API int64_t get_data_parallel_src_rank();

}  // namespace colonnade::parallel_state
