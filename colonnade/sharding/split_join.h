// colonnade/sharding/split_join.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/shard_spec.h"

#include <ATen/core/Tensor.h>

#include <span>

namespace colonnade {

// None of these is differentiable: results are detached.

/// The shard of `whole` that `spec` describes: a copy, zero where padded.
COLONNADE_API at::Tensor split(const at::Tensor& whole, const ShardSpec& spec);

/// The whole from every rank's shard and spec, in rank order. A part that
/// several hold is taken from the first. InvalidArgument where a part of the
/// whole is in no shard.
COLONNADE_API at::Tensor join(std::span<const at::Tensor> shards,
                              std::span<const ShardSpec> specs);

/// The whole of a sharded parameter, on every rank; a detached copy of a
/// replicated one. Collective over the parameter's group.
///
/// Memory  beside the whole, one padded shard of every rank
/// Wire    one all-gather
COLONNADE_API at::Tensor gather_parameter(const at::Tensor& parameter);

/// Fills `parameter` with this rank's part of `whole` (its logical shape), and
/// padding with zeros; a replicated one with all of it. No communication.
/// InvalidArgument shows both shapes where they differ.
COLONNADE_API void split_parameter(at::Tensor& parameter,
                                   const at::Tensor& whole);

}  // namespace colonnade
