// colonnade/checkpoint/detail/digest.h
#pragma once

#include "colonnade/checkpoint/detail/piece.h"
#include "colonnade/core/api.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace colonnade::detail {

/// The digest of some elements of a tensor called `name`: the sum, modulo 2^64,
/// of mix(name, whole index, bits) over them, with mix bijective in the bits.
///
/// The order of the elements and how they are spread over ranks do not matter:
/// digests of disjoint parts add up to that of the whole, at every degree. One
/// changed element always changes it. It finds accidents, not forgers.
///
/// window which of them
/// data   the local tensor that `piece` describes, contiguous
/// Cost   one read of the data; in cache 34 GB/s for four-byte and 15 for
///        two-byte elements on one core with AVX-512 (Zen 5), a quarter of it
///        with AVX2
COLONNADE_API uint64_t tensor_digest(std::string_view name, const Piece& piece,
                                     const void* data, int64_t element_size,
                                     IndexRange window = kEverywhere);

/// XXH3, 128 bits, of bytes that have one layout only: a file's header, the
/// manifest. 32 hexadecimal digits.
COLONNADE_API std::string bytes_digest(std::string_view bytes);

/// `digest` as 16 hexadecimal digits.
COLONNADE_API std::string to_hex(uint64_t digest);

}  // namespace colonnade::detail
