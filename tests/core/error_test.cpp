// tests/core/error_test.cpp
#include "colonnade/core/error.h"

#include <gtest/gtest.h>

namespace colonnade {
namespace {

TEST(Error, JoinsThePartsOfItsMessage) {
  try {
    check_arg(1 + 1 == 3, "Subject: ", 2, " is not ", 3.5);
    FAIL() << "nothing was thrown";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "Subject: 2 is not 3.5");
  }
}

TEST(Error, IsNotThrownWhereTheCheckHolds) {
  EXPECT_NO_THROW(check<CommError>(true, "unused"));
}

TEST(Error, HasKindsThatAreErrorsAndRuntimeErrors) {
  EXPECT_THROW(throw CommError("x"), Error);
  EXPECT_THROW(throw CheckpointError("x"), Error);
  EXPECT_THROW(throw InvalidArgument("x"), std::runtime_error);
}

}  // namespace
}  // namespace colonnade
