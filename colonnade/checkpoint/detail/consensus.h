// colonnade/checkpoint/detail/consensus.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <concepts>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// The ranks that save or load together, and this one's part. Groups are null
/// in a program of one rank.
struct CheckpointRanks {
  GroupPtr world;
  GroupPtr tensor_parallel;
  int rank = 0;         ///< In the tensor-parallel group.
  int size = 1;         ///< Of the tensor-parallel group.
  bool writes = true;   ///< Data-parallel rank 0: one of each shard is written.
  bool commits = true;  ///< The one rank that writes the manifest.

  /// Those of the calling rank.
  ///
  /// what    the function that asks, for errors
  /// Errors  InvalidArgument in a world of several ranks without parallel state
  COLONNADE_API static CheckpointRanks current(std::string_view what);
};

/// Every rank's bytes, in rank order; only `bytes` for a null group.
std::vector<std::string> gather_bytes(const GroupPtr& group,
                                      std::string_view bytes);

/// `text` of the rank that commits, on every rank.
std::string from_first(const CheckpointRanks& ranks, const std::string& text);

/// What a rank reports after a step: nothing, or its error. Text for the wire.
COLONNADE_API std::string report_error(const std::exception& error);

/// Throws on every rank if one reports an error: an exception of the type that
/// the first failing rank has, with the message, and with the ranks' numbers
/// unless all say the same.
COLONNADE_API void throw_if_any(const GroupPtr& group,
                                const std::string& report);

/// Runs `step`, which does not communicate, on every rank; if it throws on one,
/// this throws on all.
template <std::invocable Step>
void together(const GroupPtr& group, Step&& step) {
  std::string report;
  try {
    step();
  } catch (const std::exception& error) {
    report = report_error(error);
  }
  throw_if_any(group, report);
}

}  // namespace colonnade::detail
