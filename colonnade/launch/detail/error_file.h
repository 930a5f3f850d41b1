// colonnade/launch/detail/error_file.h
#pragma once

#include <string>
#include <string_view>

namespace colonnade::detail {

/// Writes why this process failed to `file`, as torchrun reads it to show it
/// under "Root Cause". Nothing where the name is empty or cannot be written.
void write_error_file(const std::string& file, std::string_view text) noexcept;

}  // namespace colonnade::detail
