// colonnade/checkpoint/detail/plan.h
// What a save decides before it writes: which tensors there are on all ranks
// together, how each lies over them, and which rank writes which part.
#pragma once

#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/checkpoint/detail/piece.h"
#include "colonnade/checkpoint/detail/tree.h"
#include "colonnade/checkpoint/state_dict.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace colonnade::detail {

/// A tensor of this rank's state dict.
struct LocalTensor {
  std::string name;
  std::string same_as;  ///< The first name of the same tensor; often its own.
  StateTensor value;
};

/// The tensors among the leaves, in order, with ties found: the same memory,
/// seen with the same shape, dtype and attributes.
///
/// Errors  InvalidArgument names the key of one that cannot be saved
std::vector<LocalTensor> find_tensors(std::span<const Leaf> leaves);

/// A rank's tensors without their elements, for the other ranks.
std::string describe(std::span<const LocalTensor> tensors);

/// A tensor of the checkpoint to be. Layout, parts and digests of `entry` are
/// known once all ranks' digests are.
struct PlannedTensor {
  ManifestTensor entry;
  std::vector<std::vector<int64_t>> local_shapes;  ///< One a rank.
  std::vector<Holding> holdings;                   ///< Only if split.

  bool is_split() const { return entry.layout == Layout::kSplit; }
  /// Where the elements of a rank's tensor lie in the whole.
  Piece local_piece(int rank) const;
};

/// descriptions  from `describe`, in rank order
/// Errors        InvalidArgument lists the keys that some ranks lack, on which
///               ranks disagree, or that nobody holds completely
std::vector<PlannedTensor> make_plan(std::span<const std::string> descriptions);

/// The digests of what `rank` holds: of each holding that it has of a split
/// tensor, of all of another.
std::vector<uint64_t> digest_local(std::span<const PlannedTensor> plan,
                                   std::span<const LocalTensor> tensors,
                                   int rank);

/// Fills layout, parts and digests in.
///
/// digests  from digest_local, in rank order
/// Errors   InvalidArgument names a tensor of which ranks share a part but not
///          its values
void assign_parts(std::vector<PlannedTensor>& plan,
                  std::span<const std::vector<uint64_t>> digests);

/// The tensor of that name, which is there. Cost: linear.
const at::Tensor& find_tensor(std::span<const LocalTensor> tensors,
                              const std::string& name);

/// The elements as plain host memory; a copy only where they are not.
at::Tensor host_tensor(const at::Tensor& tensor);

}  // namespace colonnade::detail
