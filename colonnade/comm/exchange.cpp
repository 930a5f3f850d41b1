// colonnade/comm/exchange.cpp
#include "colonnade/comm/exchange.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

namespace colonnade {
namespace {

at::Tensor bytes_tensor(int64_t n) {
  return at::empty({n}, at::kByte);
}

char* data(at::Tensor& x) {
  return static_cast<char*>(x.mutable_data_ptr());
}

}  // namespace

std::vector<std::string> all_gather_bytes(Group& group,
                                          std::string_view bytes) {
  const int64_t size = group.size();
  at::Tensor length = at::empty({1}, at::kLong);
  *length.mutable_data_ptr<int64_t>() = static_cast<int64_t>(bytes.size());
  at::Tensor lengths = at::empty({size}, at::kLong);
  group.all_gather(lengths, length);

  const int64_t* const each = lengths.const_data_ptr<int64_t>();
  const int64_t longest = *std::max_element(each, each + size);
  at::Tensor mine = at::zeros({longest}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), data(mine));
  at::Tensor all = bytes_tensor(size * longest);
  group.all_gather(all, mine);

  std::vector<std::string> result;
  for (int64_t i = 0; i < size; ++i) {
    result.emplace_back(data(all) + i * longest, static_cast<size_t>(each[i]));
  }
  return result;
}

std::string broadcast_bytes(Group& group, std::string_view bytes, int root) {
  at::Tensor length = at::empty({1}, at::kLong);
  *length.mutable_data_ptr<int64_t>() = static_cast<int64_t>(bytes.size());
  group.broadcast(length, root);

  const int64_t n = *length.const_data_ptr<int64_t>();
  at::Tensor text = bytes_tensor(n);
  if (group.rank() == root) {
    std::copy(bytes.begin(), bytes.end(), data(text));
  }
  group.broadcast(text, root);
  return std::string(data(text), static_cast<size_t>(n));
}

}  // namespace colonnade
