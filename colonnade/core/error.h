// colonnade/core/error.h
#pragma once

#include "colonnade/core/api.h"

#include <sstream>
#include <stdexcept>
#include <string>

namespace colonnade {

/// Everything this library throws.
///
/// A message reads `Subject: what is wrong, with the values seen`, then the way
/// out.
class COLONNADE_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's mistake, found before any communication.
class COLONNADE_API InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// A peer that failed, left, stayed silent or called something else.
class COLONNADE_API CommError : public Error {
 public:
  using Error::Error;
};

/// Bytes on disk that are missing, damaged or do not fit.
class COLONNADE_API CheckpointError : public Error {
 public:
  using Error::Error;
};

/// The arguments streamed one after the other into one string.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws `E` with the parts joined unless `ok`. The parts are put together
/// only on failure, so a check costs a branch.
template <typename E, typename... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]] {
    throw E(concat(parts...));
  }
}

/// `check` for the caller's mistakes: throws InvalidArgument.
template <typename... Parts>
void check_arg(bool ok, const Parts&... parts) {
  check<InvalidArgument>(ok, parts...);
}

}  // namespace colonnade
