// colonnade/parallel_layers/detail/resolve_group.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <cstdint>
#include <string_view>

namespace colonnade::parallel_layers::detail {

/// `group` itself, or the current tensor-parallel group where it is null.
///
/// Errors  InvalidArgument, with `subject` in front, before
///         initialize_model_parallel, and where `group` is not one of the
///         calling rank's: dispatcher ops find groups by name.
COLONNADE_API GroupPtr resolve_group(const GroupPtr& group,
                                     std::string_view subject);

/// The smallest multiple of `divisor` that is at least `size`.
constexpr int64_t round_up(int64_t size, int64_t divisor) {
  return (size + divisor - 1) / divisor * divisor;
}

}  // namespace colonnade::parallel_layers::detail
