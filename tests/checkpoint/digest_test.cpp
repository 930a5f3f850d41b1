// tests/checkpoint/digest_test.cpp
#include "colonnade/checkpoint/detail/digest.h"

#include "colonnade/sharding/split_join.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

namespace colonnade::detail {
namespace {

uint64_t digest_of(const at::Tensor& tensor, const Piece& piece) {
  return tensor_digest("name", piece, tensor.const_data_ptr(),
                       tensor.element_size());
}

uint64_t digest_whole(const at::Tensor& tensor) {
  return digest_of(tensor, whole_piece(tensor.numel()));
}

TEST(TensorDigest, PartsAddUpToTheWholeHoweverItIsSplit) {
  for (const auto dtype :
       {torch::kByte, torch::kBFloat16, torch::kFloat, torch::kDouble}) {
    const at::Tensor whole = torch::arange(12 * 10 * 7)
                                 .remainder(251)
                                 .reshape({12, 10, 7})
                                 .to(dtype);
    for (const int64_t dim : {0, 1, 2}) {
      for (const int64_t ranks : {1, 2, 3, 4}) {
        uint64_t sum = 0;
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const auto spec =
              ShardSpec::padded(dim, whole.size(dim), rank, ranks);
          const at::Tensor shard = split(whole, spec);
          sum += digest_of(shard, make_piece(whole.sizes(), dim, spec.ranges,
                                             spec.local_size));
        }
        EXPECT_EQ(sum, digest_whole(whole)) << dim << " " << ranks;
      }
    }
  }
}

TEST(TensorDigest, EveryBitAndEveryPlaceCounts) {
  at::Tensor tensor = torch::zeros({37}, torch::kFloat);
  std::set<uint64_t> seen = {digest_whole(tensor)};
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= static_cast<unsigned char>(1 << bit);
      EXPECT_TRUE(seen.insert(digest_whole(tensor)).second)
          << "byte " << i << ", bit " << bit;
      bytes[i] ^= static_cast<unsigned char>(1 << bit);
    }
  }
  const at::Tensor other = torch::arange(37, torch::kFloat);
  EXPECT_NE(digest_whole(other), digest_whole(other.flip(0)));
  EXPECT_NE(tensor_digest("a", whole_piece(37), bytes, 4),
            tensor_digest("b", whole_piece(37), bytes, 4));
}

// Files hold these numbers: they must not change with the machine or the
// version.
TEST(TensorDigest, IsWhatItWas) {
  EXPECT_EQ(to_hex(digest_whole(torch::arange(1000, torch::kLong))),
            "37e77a044f2ab871");
  EXPECT_EQ(to_hex(digest_whole(torch::arange(1000, torch::kInt))),
            "37e77a044f2ab871");
  EXPECT_EQ(to_hex(digest_whole(torch::arange(1000, torch::kShort))),
            "37e77a044f2ab871");
  EXPECT_EQ(to_hex(digest_whole(torch::arange(100, torch::kByte))),
            "02ccf933c7719b90");
  EXPECT_EQ(bytes_digest("colonnade"), "ad30c1874c7466417b973af1a7965514");
}

}  // namespace
}  // namespace colonnade::detail
