// colonnade/checkpoint/detail/safetensors.cpp
#include "colonnade/checkpoint/detail/safetensors.h"

#include "colonnade/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

namespace colonnade::detail {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian");

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kLengthBytes = 8;
constexpr size_t kAlignment = 64;
// As in the reference implementation.
constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr const char* kMetadata = "__metadata__";

constexpr std::array<std::pair<at::ScalarType, const char*>, 15> kDtypes = {{
    {at::kBool, "BOOL"},
    {at::kByte, "U8"},
    {at::kChar, "I8"},
    {at::kShort, "I16"},
    {at::kUInt16, "U16"},
    {at::kInt, "I32"},
    {at::kUInt32, "U32"},
    {at::kLong, "I64"},
    {at::kUInt64, "U64"},
    {at::kHalf, "F16"},
    {at::kBFloat16, "BF16"},
    {at::kFloat, "F32"},
    {at::kDouble, "F64"},
    {at::kFloat8_e4m3fn, "F8_E4M3"},
    {at::kFloat8_e5m2, "F8_E5M2"},
}};

/// A non-negative integer, or -1.
int64_t count_from(const json& value) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return -1;
  }
  return value.get<int64_t>();
}

/// One entry of the header, with its offset within the data.
SafetensorsEntry parse_entry(const std::string& name, const json& value,
                             const std::string& subject, int64_t data_bytes) {
  const auto demand = [&](bool ok, const auto&... what) {
    check<CheckpointError>(ok, subject, ": tensor ", name, ": ", what...);
  };
  demand(value.is_object() && value.contains("dtype") &&
             value["dtype"].is_string() && value.contains("shape") &&
             value["shape"].is_array() && value.contains("data_offsets") &&
             value["data_offsets"].is_array() &&
             value["data_offsets"].size() == 2,
         "needs dtype, shape and two data_offsets");
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = dtype_from_name(value["dtype"].get<std::string>(),
                                concat(subject, ": tensor ", name));
  int64_t bytes = static_cast<int64_t>(c10::elementSize(entry.dtype));
  for (const json& size : value["shape"]) {
    entry.shape.push_back(count_from(size));
    demand(entry.shape.back() >= 0 &&
               !__builtin_mul_overflow(bytes, entry.shape.back(), &bytes),
           "size ", entry.shape.size() - 1, " of its shape is not possible");
  }
  const int64_t begin = count_from(value["data_offsets"][0]);
  const int64_t end = count_from(value["data_offsets"][1]);
  demand(0 <= begin && begin <= end && end <= data_bytes, "data_offsets ",
         begin, " and ", end, " are not within the ", data_bytes,
         " bytes that follow the header");
  demand(end - begin == bytes, "has ", end - begin, " bytes, but ", bytes,
         " by its dtype and shape");
  entry.offset = begin;
  return entry;
}

}  // namespace

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [type, name] : kDtypes) {
    if (type == dtype) {
      return name;
    }
  }
  return "";
}

at::ScalarType dtype_from_name(std::string_view name,
                               std::string_view subject) {
  for (const auto& [type, known] : kDtypes) {
    if (name == known) {
      return type;
    }
  }
  throw CheckpointError(concat(subject, ": dtype ", name, " is not supported"));
}

int64_t SafetensorsEntry::numel() const {
  return c10::multiply_integers(shape);
}

int64_t SafetensorsEntry::bytes() const {
  return numel() * static_cast<int64_t>(c10::elementSize(dtype));
}

std::string SafetensorsHeader::layout() {
  ordered_json object = ordered_json::object();
  if (!metadata.empty()) {
    object[kMetadata] = metadata;
  }
  int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    const int64_t end = offset + entry.bytes();
    object[entry.name] = {{"dtype", dtype_name(entry.dtype)},
                          {"shape", entry.shape},
                          {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = object.dump();
  // The tensors begin on a cache line, also in a mapped file.
  while ((kLengthBytes + text.size()) % kAlignment != 0) {
    text += ' ';
  }
  const uint64_t length = text.size();
  std::string header(kLengthBytes, '\0');
  std::memcpy(header.data(), &length, sizeof(length));
  header += text;

  offset = static_cast<int64_t>(header.size());
  for (SafetensorsEntry& entry : entries) {
    entry.offset = offset;
    offset += entry.bytes();
  }
  file_bytes = offset;
  return header;
}

std::string read_safetensors_header(const File& file) {
  const int64_t size = file.size();
  check<CheckpointError>(size >= kLengthBytes, file.path().string(), ": has ",
                         size,
                         " bytes, too few for a safetensors file; it "
                         "was cut");
  uint64_t length = 0;
  file.read(0, &length, sizeof(length));
  const uint64_t limit =
      static_cast<uint64_t>(std::min(size - kLengthBytes, kMaxHeaderBytes));
  check<CheckpointError>(
      length <= limit, file.path().string(), ": its header claims ", length,
      " bytes where at most ", limit,
      " are possible; it was cut, or is not a safetensors file");
  std::string header(kLengthBytes + length, '\0');
  file.read(0, header.data(), static_cast<int64_t>(header.size()));
  return header;
}

SafetensorsHeader parse_safetensors_header(std::string_view header,
                                           const File& file) {
  const std::string subject = file.path().string();
  std::vector<std::string> keys;
  // A later key replaces an earlier one silently, so they are counted here.
  const json::parser_callback_t see = [&](int depth, json::parse_event_t event,
                                          json& value) {
    if (event == json::parse_event_t::key && depth == 1) {
      keys.push_back(value.get<std::string>());
    }
    return true;
  };
  const json object = json::parse(header.substr(kLengthBytes), see,
                                  /*allow_exceptions=*/false);
  check<CheckpointError>(object.is_object(), subject,
                         ": its header is not a JSON object");
  std::ranges::sort(keys);
  const auto repeated = std::ranges::adjacent_find(keys);
  check<CheckpointError>(repeated == keys.end(), subject, ": tensor ",
                         repeated == keys.end() ? "" : *repeated,
                         ": is in the header twice");

  SafetensorsHeader result;
  result.file_bytes = file.size();
  const int64_t data_begin = static_cast<int64_t>(header.size());
  for (const auto& [name, value] : object.items()) {
    if (name == kMetadata) {
      check<CheckpointError>(value.is_object(), subject,
                             ": its metadata is not a JSON object");
      for (const auto& [key, text] : value.items()) {
        check<CheckpointError>(text.is_string(), subject, ": metadata ", key,
                               " is not a string");
        result.metadata[key] = text.get<std::string>();
      }
      continue;
    }
    result.entries.push_back(
        parse_entry(name, value, subject, result.file_bytes - data_begin));
  }

  std::ranges::sort(result.entries, [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.bytes()) < std::pair(b.offset, b.bytes());
  });
  int64_t expected = 0;
  for (SafetensorsEntry& entry : result.entries) {
    check<CheckpointError>(entry.offset == expected, subject, ": tensor ",
                           entry.name, ": begins at byte ", entry.offset,
                           " of the data where ", expected,
                           " is the next; tensors overlap or leave a gap");
    expected += entry.bytes();
    entry.offset += data_begin;
  }
  check<CheckpointError>(data_begin + expected == result.file_bytes, subject,
                         ": has ", result.file_bytes, " bytes, but ",
                         data_begin + expected,
                         " by its header; it was cut, or bytes were added");
  return result;
}

}  // namespace colonnade::detail
