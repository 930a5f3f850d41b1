// tests/core/version_test.cpp
#include "colonnade/core/version.h"

#include <gtest/gtest.h>

#include <sstream>

namespace colonnade {
namespace {

TEST(Version, LibraryIsTheOneOfTheHeaders) {
  std::ostringstream headers;
  headers << COLONNADE_VERSION_MAJOR << '.' << COLONNADE_VERSION_MINOR << '.'
          << COLONNADE_VERSION_PATCH;
  EXPECT_EQ(version(), headers.str());
}

}  // namespace
}  // namespace colonnade
