// colonnade/random/detail/rank_random_key.h
#pragma once

#include <c10/core/DispatchKey.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cstdint>

namespace colonnade::detail {

/// The dispatch key that is included on a rank's thread. LibTorch has it for
/// such modes and uses it nowhere itself; it lies above autograd, autocast and
/// every backend.
inline constexpr c10::DispatchKey kRankRandomKey =
    c10::DispatchKey::TESTING_ONLY_GenericMode;

/// Whether the calling thread is inside a RankRandomScope.
inline bool in_rank_random_scope() {
  return c10::impl::tls_is_dispatch_key_included(kRankRandomKey);
}

/// How many random ops have run on the calling thread inside a
/// RankRandomScope.
uint64_t random_draws();

}  // namespace colonnade::detail
