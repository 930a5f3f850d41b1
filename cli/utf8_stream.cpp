// cli/utf8_stream.cpp
#include "cli/utf8_stream.h"

#include <utility>

namespace colonnade::cli {
namespace {

constexpr const char* kReplacement = "\xef\xbf\xbd";

/// Bytes of the character that begins with `lead`; 0 where none can.
size_t length_of(unsigned char lead) {
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xc2 && lead < 0xe0) {
    return 2;
  }
  if (lead >= 0xe0 && lead < 0xf0) {
    return 3;
  }
  return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

/// Whether `byte` may come second after `lead`: neither a longer form than
/// needed, nor a surrogate, nor beyond U+10FFFF.
bool may_follow(unsigned char lead, unsigned char byte) {
  switch (lead) {
    case 0xe0:
      return byte >= 0xa0 && byte < 0xc0;
    case 0xed:
      return byte >= 0x80 && byte < 0xa0;
    case 0xf0:
      return byte >= 0x90 && byte < 0xc0;
    case 0xf4:
      return byte >= 0x80 && byte < 0x90;
    default:
      return byte >= 0x80 && byte < 0xc0;
  }
}

bool continues(const std::string& pending, unsigned char byte) {
  return pending.size() == 1
             ? may_follow(static_cast<unsigned char>(pending[0]), byte)
             : byte >= 0x80 && byte < 0xc0;
}

}  // namespace

std::string Utf8Stream::push(unsigned char byte) {
  std::string out;
  if (!pending_.empty() && !continues(pending_, byte)) {
    out = finish();
  }
  if (pending_.empty() && length_of(byte) == 0) {
    return out + kReplacement;
  }
  pending_.push_back(static_cast<char>(byte));
  if (pending_.size() == length_of(static_cast<unsigned char>(pending_[0]))) {
    out += std::exchange(pending_, {});
  }
  return out;
}

std::string Utf8Stream::finish() {
  return std::exchange(pending_, {}).empty() ? "" : kReplacement;
}

}  // namespace colonnade::cli
