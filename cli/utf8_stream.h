// cli/utf8_stream.h
#pragma once

#include <string>

namespace colonnade::cli {

/// Turns bytes that come one by one into text that can be shown at any time: a
/// character appears when it is whole, and what is no UTF-8 as one
/// replacement character (U+FFFD) a broken sequence.
class Utf8Stream {
 public:
  /// What `byte` completes; often nothing.
  std::string push(unsigned char byte);
  /// What is left at the end.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace colonnade::cli
