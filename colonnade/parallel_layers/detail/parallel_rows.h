// colonnade/parallel_layers/detail/parallel_rows.h
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace colonnade::parallel_layers::detail {

/// Calls `body(begin, end)` on parts of [0, rows) on torch's intra-op threads,
/// as at::parallel_for would if this library were compiled with OpenMP.
///
/// grain  rows that are worth a thread; up to that many run on the caller
/// Errors what `body` throws
void parallel_rows(int64_t rows, int64_t grain,
                   c10::function_ref<void(int64_t, int64_t)> body);

}  // namespace colonnade::parallel_layers::detail
