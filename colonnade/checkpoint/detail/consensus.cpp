// colonnade/checkpoint/detail/consensus.cpp
#include "colonnade/checkpoint/detail/consensus.h"

#include "colonnade/comm/exchange.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <algorithm>

namespace colonnade::detail {
namespace {

// The first letter of a report says which exception it was.
constexpr char kInvalidArgument = 'i';
constexpr char kCheckpointError = 'c';
constexpr char kOther = 'e';

}  // namespace

CheckpointRanks CheckpointRanks::current(std::string_view what) {
  CheckpointRanks ranks;
  if (!parallel_state::model_parallel_is_initialized()) {
    const WorldPtr& world = RankContext::current()->world();
    check_arg(world == nullptr || world->size() == 1, what, ": this world has ",
              world == nullptr ? 1 : world->size(),
              " ranks and no parallel state; call initialize_model_parallel "
              "first");
    return ranks;
  }
  ranks.world = parallel_state::get_world_group();
  ranks.tensor_parallel = parallel_state::get_tensor_model_parallel_group();
  ranks.rank = ranks.tensor_parallel->rank();
  ranks.size = ranks.tensor_parallel->size();
  ranks.writes = parallel_state::get_data_parallel_rank() == 0;
  ranks.commits = ranks.writes && ranks.rank == 0;
  return ranks;
}

std::vector<std::string> gather_bytes(const GroupPtr& group,
                                      std::string_view bytes) {
  if (group == nullptr) {
    return {std::string(bytes)};
  }
  return all_gather_bytes(*group, bytes);
}

std::string from_first(const CheckpointRanks& ranks, const std::string& text) {
  return ranks.world == nullptr
             ? text
             : broadcast_bytes(*ranks.world, text, /*root=*/0);
}

std::string report_error(const std::exception& error) {
  char kind = kOther;
  if (dynamic_cast<const InvalidArgument*>(&error) != nullptr) {
    kind = kInvalidArgument;
  } else if (dynamic_cast<const CheckpointError*>(&error) != nullptr) {
    kind = kCheckpointError;
  }
  return kind + std::string(error.what());
}

void throw_if_any(const GroupPtr& group, const std::string& report) {
  const std::vector<std::string> reports = gather_bytes(group, report);
  const auto failed = std::ranges::find_if(
      reports, [](const std::string& text) { return !text.empty(); });
  if (failed == reports.end()) {
    return;
  }
  const char kind = failed->front();
  std::string message;
  if (std::ranges::all_of(
          reports, [&](const std::string& text) { return text == *failed; })) {
    message = failed->substr(1);
  } else {
    for (size_t rank = 0; rank < reports.size(); ++rank) {
      if (!reports[rank].empty()) {
        message += concat(message.empty() ? "" : "\n", "on rank ", rank, ": ",
                          reports[rank].substr(1));
      }
    }
  }
  if (kind == kInvalidArgument) {
    throw InvalidArgument(message);
  }
  if (kind == kCheckpointError) {
    throw CheckpointError(message);
  }
  throw Error(message);
}

}  // namespace colonnade::detail
