// colonnade/checkpoint/detail/digest.cpp
#include "colonnade/checkpoint/detail/digest.h"

#define XXH_INLINE_ALL
#include "colonnade/core/error.h"

#include <xxhash.h>

namespace colonnade::detail {
namespace {

// The splitmix64 generator (Steele, Lea, Flood 2014): element i of a tensor is
// combined with the i-th state of a sequence that starts at the name's hash,
// and then run through the output function, which is a bijection.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15;

[[gnu::always_inline]] inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

template <typename Word>
[[gnu::always_inline]] inline uint64_t sum_run(uint64_t state, const void* data,
                                               int64_t count) {
  const Word* words = static_cast<const Word*>(data);
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += mix(words[i] ^ state);
    state += kStep;
  }
  return sum;
}

[[gnu::always_inline]] inline uint64_t sum_elements(uint64_t state,
                                                    const void* data,
                                                    int64_t count,
                                                    int64_t element_size) {
  switch (element_size) {
    case 1:
      return sum_run<uint8_t>(state, data, count);
    case 2:
      return sum_run<uint16_t>(state, data, count);
    case 4:
      return sum_run<uint32_t>(state, data, count);
    default:
      return sum_run<uint64_t>(state, data, count);
  }
}

using SumElements = uint64_t (*)(uint64_t, const void*, int64_t, int64_t);

uint64_t sum_elements_baseline(uint64_t state, const void* data, int64_t count,
                               int64_t element_size) {
  return sum_elements(state, data, count, element_size);
}

#if defined(__x86_64__)
// The compiler vectorises the loop; without these it may use SSE2 only.
[[gnu::target("avx2")]] uint64_t sum_elements_avx2(uint64_t state,
                                                   const void* data,
                                                   int64_t count,
                                                   int64_t element_size) {
  return sum_elements(state, data, count, element_size);
}

#if defined(__clang__)
#define COLONNADE_AVX512 "avx512f,avx512dq,avx512vl,avx512bw"
#else
#define COLONNADE_AVX512 \
  "avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512"
#endif
[[gnu::target(COLONNADE_AVX512)]] uint64_t sum_elements_avx512(
    uint64_t state, const void* data, int64_t count, int64_t element_size) {
  return sum_elements(state, data, count, element_size);
}
#endif

SumElements choose_sum_elements() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw")) {
    return sum_elements_avx512;
  }
  if (__builtin_cpu_supports("avx2")) {
    return sum_elements_avx2;
  }
#endif
  return sum_elements_baseline;
}

}  // namespace

uint64_t tensor_digest(std::string_view name, const Piece& piece,
                       const void* data, int64_t element_size,
                       IndexRange window) {
  static const SumElements sum = choose_sum_elements();
  const uint64_t key = XXH3_64bits(name.data(), name.size());
  const char* bytes = static_cast<const char*>(data);
  uint64_t digest = 0;
  for_each_run(piece, window, [&](const Run& run) {
    digest += sum(key + kStep * static_cast<uint64_t>(run.whole),
                  bytes + run.local * element_size, run.count, element_size);
  });
  return digest;
}

std::string to_hex(uint64_t digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, digest >>= 4) {
    text[static_cast<size_t>(i)] = kDigits[digest & 15];
  }
  return text;
}

std::string bytes_digest(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return to_hex(hash.high64) + to_hex(hash.low64);
}

}  // namespace colonnade::detail
