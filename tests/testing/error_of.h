// tests/testing/error_of.h
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace colonnade {

/// The text of the `E` that `call` throws; a failure where it throws none.
template <typename E, typename Call>
std::string error_of(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace colonnade
