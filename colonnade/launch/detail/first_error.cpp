// colonnade/launch/detail/first_error.cpp
#include "colonnade/launch/detail/first_error.h"

#include "colonnade/core/error.h"

#include <c10/util/Exception.h>

#include <typeinfo>
#include <utility>

namespace colonnade::detail {
namespace {

/// Throws an `E` that names the rank, if `error` is just that type.
template <typename E>
void throw_if(const Error& error, int rank) {
  if (typeid(error) == typeid(E)) {
    throw E(concat("rank ", rank, ": ", error.what()));
  }
}

}  // namespace

void FirstError::set(int rank, std::exception_ptr error) {
  std::lock_guard lock(mutex_);
  if (error_ == nullptr) {
    error_ = std::move(error);
    rank_ = rank;
  }
}

void FirstError::rethrow_if_set() const {
  if (error_ != nullptr) {
    std::rethrow_exception(error_);
  }
}

void FirstError::rethrow_with_rank() {
  try {
    std::rethrow_exception(std::exchange(error_, nullptr));
  } catch (const Error& error) {
    throw_if<InvalidArgument>(error, rank_);
    throw_if<CommError>(error, rank_);
    throw_if<CheckpointError>(error, rank_);
    throw_if<Error>(error, rank_);
    throw;
  } catch (c10::Error& error) {
    // Has many types, so that no copy would keep it.
    error.add_context(concat("rank ", rank_));
    throw;
  }
}

}  // namespace colonnade::detail
