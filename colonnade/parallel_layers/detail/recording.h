// colonnade/parallel_layers/detail/recording.h
#pragma once

#include <c10/core/DispatchKey.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace colonnade::parallel_layers::detail {

/// The key that a recorder of dispatcher calls includes in its thread.
inline constexpr c10::DispatchKey kRecorderKey = c10::DispatchKey::DeferredInit;

/// Whether this thread's next dispatcher call is recorded, into a graph that
/// must be valid on every rank and at every degree: eager code may then not
/// spare a group of one a call, nor choose ops by rank or degree.
inline bool is_recording() {
  return c10::impl::tls_is_dispatch_key_included(kRecorderKey) &&
         !c10::impl::tls_is_dispatch_key_excluded(kRecorderKey);
}

/// The inside of an op: what it calls is not recorded.
class NotRecordedScope {
 private:
  const c10::impl::ExcludeDispatchKeyGuard excluded_{kRecorderKey};
};

}  // namespace colonnade::parallel_layers::detail
