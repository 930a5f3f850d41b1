// tests/cli/utf8_stream_test.cpp
#include "cli/utf8_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace colonnade::cli {
namespace {

constexpr const char* kReplacement = "\xef\xbf\xbd";

std::string shown(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  for (const char byte : bytes) {
    text += stream.push(static_cast<unsigned char>(byte));
  }
  return text + stream.finish();
}

TEST(Utf8Stream, WholeCharactersPass) {
  for (const char* text : {"plain\n", "caf\u00e9", "\u20ac \u0416",
                           "\U0001f600", "\U0010ffff\u0800"}) {
    EXPECT_EQ(shown(text), text);
  }
}

TEST(Utf8Stream, ACharacterAppearsWithItsLastByte) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push(0x82), "");
  EXPECT_EQ(stream.push(0xac), "\u20ac");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, BrokenSequencesAreOneReplacementEach) {
  const std::string r = kReplacement;
  EXPECT_EQ(shown("\x80"), r);  // continues nothing
  EXPECT_EQ(shown("\xff"
                  "a"),
            r + "a");  // begins nothing
  EXPECT_EQ(shown("\xe2\x82"
                  "a"),
            r + "a");               // cut short by a letter
  EXPECT_EQ(shown("\xe2\x82"), r);  // cut short by the end
  EXPECT_EQ(shown("\xe2\xc3\xa9"), r + "\u00e9");
  EXPECT_EQ(shown("\xc0\xaf"), r + r);                  // longer than needed
  EXPECT_EQ(shown("\xed\xa0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(shown("\xf4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
}

}  // namespace
}  // namespace colonnade::cli
