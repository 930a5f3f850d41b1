// tests/comm/conformance.h
#pragma once

#include "colonnade/comm/group.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade {

/// Expects of all collectives on `group`, with `n` elements (a rank, where a
/// collective makes more of them), what one thread computes, bit by bit.
void check_collectives(Group& group, int64_t n, at::ScalarType dtype);

}  // namespace colonnade
