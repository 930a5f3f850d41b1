// cli/format.h
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace colonnade::cli {

std::string with_commas(int64_t number);         ///< 1,234,567
std::string as_bytes(int64_t bytes);             ///< 12.3 MiB
std::string as_duration(double seconds);         ///< 1:05, or 2:01:05
std::string as_time(double seconds);             ///< 12.3 us, 1.23 ms
std::string as_fixed(double value, int digits);  ///< 1.235

/// Spaces in front, up to `width` characters.
std::string right_aligned(const std::string& text, size_t width);
/// Spaces behind, likewise.
std::string left_aligned(std::string text, size_t width);

}  // namespace colonnade::cli
