// colonnade/checkpoint/detail/safetensors.h
#pragma once

#include "colonnade/checkpoint/detail/file.h"
#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// The name of a dtype in safetensors, such as "BF16"; empty where the format
/// has none (complex, quantised).
COLONNADE_API std::string dtype_name(at::ScalarType dtype);

/// The other way round; CheckpointError with `subject` in front for a name that
/// is not known.
at::ScalarType dtype_from_name(std::string_view name, std::string_view subject);

/// One tensor of a safetensors file.
struct COLONNADE_API SafetensorsEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  int64_t offset = 0;  ///< Of its first byte in the file.

  int64_t numel() const;
  int64_t bytes() const;
};

/// What a safetensors file says of itself: eight bytes with the length of a
/// JSON object, the object, and then the tensors' bytes without gaps.
struct COLONNADE_API SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> entries;  ///< In the order of their bytes.
  int64_t file_bytes = 0;                 ///< Of the whole file.

  /// Sets the offsets: entries in their order, one after the other; returns
  /// the bytes with which the file begins.
  std::string layout();
};

/// The header's bytes: the length and the object.
///
/// Errors  CheckpointError where the file is too short for it
COLONNADE_API std::string read_safetensors_header(const File& file);

/// Checks everything that the file says: lengths and offsets within the file,
/// sizes that fit dtypes and shapes, no gap and no overlap.
///
/// header  from read_safetensors_header
/// Errors  CheckpointError that names the file and the tensor
COLONNADE_API SafetensorsHeader
parse_safetensors_header(std::string_view header, const File& file);

}  // namespace colonnade::detail
