// tests/comm/fake_nccl.cpp
#include "tests/comm/fake_nccl.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using detail::nccl::Api;
using detail::nccl::Comm;
using detail::nccl::Config;
using detail::nccl::DataType;
using detail::nccl::RedOp;
using detail::nccl::Result;
using detail::nccl::Stream;
using detail::nccl::UniqueId;

using Bytes = std::vector<char>;

constexpr Result kInvalidArgument{4};
constexpr Result kInternalError{3};

/// What the ranks of a communicator share.
struct Shared {
  std::mutex mutex;
  int size = 0;
  int joined = 0;
  int finalized = 0;
  std::map<uint64_t, std::map<int, Bytes>> rounds;  ///< Inputs, by rank.
  std::map<std::pair<int, int>, std::deque<Bytes>> mail;
};

std::mutex all_mutex;
std::map<std::string, std::shared_ptr<Shared>> all;

/// What a thread has started, in order; each returns whether it is done.
thread_local std::deque<std::function<bool()>> queue;
thread_local int groups = 0;
char the_stream;

}  // namespace
}  // namespace colonnade

namespace colonnade::detail::nccl {

struct Comm {
  std::shared_ptr<Shared> shared;
  int rank;
  uint64_t round = 0;
  bool finalizes = false;
};

}  // namespace colonnade::detail::nccl

namespace colonnade {
namespace {

at::ScalarType type_of(DataType type) {
  switch (type) {
    case DataType::kInt8:
      return at::kChar;
    case DataType::kUint8:
      return at::kByte;
    case DataType::kInt32:
      return at::kInt;
    case DataType::kInt64:
      return at::kLong;
    case DataType::kFloat16:
      return at::kHalf;
    case DataType::kFloat32:
      return at::kFloat;
    case DataType::kFloat64:
      return at::kDouble;
    case DataType::kBfloat16:
      return at::kBFloat16;
  }
  return at::kByte;
}

size_t bytes_of(size_t count, DataType type) {
  return count * at::elementSize(type_of(type));
}

at::Tensor tensor_at(void* data, size_t count, DataType type) {
  return at::from_blob(data, {static_cast<int64_t>(count)}, type_of(type));
}

/// In rank order, with one rounding at the end.
at::Tensor combined(std::map<int, Bytes>& inputs, size_t count, DataType type,
                    RedOp op) {
  at::Tensor result;
  for (auto& [rank, bytes] : inputs) {
    const at::Tensor whole = tensor_at(bytes.data(), count, type);
    const at::Tensor next =
        type == DataType::kFloat16 || type == DataType::kBfloat16
            ? whole.to(at::kFloat)
            : whole;
    result = !result.defined()       ? next.clone()
             : op == RedOp::kSum     ? result + next
             : op == RedOp::kProduct ? result * next
             : op == RedOp::kMax     ? at::maximum(result, next)
                                     : at::minimum(result, next);
  }
  return result.to(type_of(type));
}

/// Starts a call of all ranks that brings `bytes` at `from`, and ends with
/// `take(inputs of all)`.
Result start(const void* from, size_t bytes, Comm* comm, Stream* stream,
             std::function<void(std::map<int, Bytes>&)> take) {
  if (static_cast<void*>(stream) != &the_stream || bytes == 0) {
    return kInvalidArgument;
  }
  const auto* const data = static_cast<const char*>(from);
  const auto shared = comm->shared;
  const uint64_t round = comm->round++;
  {
    const std::lock_guard lock(shared->mutex);
    shared->rounds[round][comm->rank] = Bytes(data, data + bytes);
  }
  queue.emplace_back([shared, round, take = std::move(take)] {
    const std::lock_guard lock(shared->mutex);
    auto& inputs = shared->rounds[round];
    if (inputs.size() < static_cast<size_t>(shared->size)) {
      return false;
    }
    take(inputs);
    return true;
  });
  return Result::kInProgress;
}

Result get_unique_id(UniqueId* id) {
  static std::atomic<int> next{1};
  std::memset(id, 0, sizeof(*id));
  const int number = next++;
  std::memcpy(id->internal + 60, &number, sizeof(number));
  return Result::kSuccess;
}

Result comm_init(Comm** comm, int ranks, UniqueId id, int rank,
                 Config* config) {
  if (config->size != 24 || config->blocking != 0 || rank < 0 ||
      rank >= ranks) {
    return kInvalidArgument;
  }
  const std::lock_guard lock(all_mutex);
  auto& shared = all[std::string(id.internal, sizeof(id.internal))];
  if (shared == nullptr) {
    shared = std::make_shared<Shared>();
  }
  const std::lock_guard joining(shared->mutex);
  shared->size = ranks;
  ++shared->joined;
  ++FakeNccl::state().opened;
  *comm = new Comm{shared, rank};
  return Result::kInProgress;
}

Result comm_finalize(Comm* comm) {
  const std::lock_guard lock(comm->shared->mutex);
  ++comm->shared->finalized;
  comm->finalizes = true;
  return Result::kInProgress;
}

Result comm_destroy(Comm* comm) {
  ++FakeNccl::state().closed;
  delete comm;
  return Result::kSuccess;
}

Result comm_abort(Comm* comm) {
  ++FakeNccl::state().aborted;
  queue.clear();
  delete comm;
  return Result::kSuccess;
}

Result comm_get_async_error(Comm* comm, Result* result) {
  Shared& shared = *comm->shared;
  const std::lock_guard lock(shared.mutex);
  const int others = comm->finalizes ? shared.finalized : shared.joined;
  *result = others < shared.size ? Result::kInProgress : Result::kSuccess;
  return Result::kSuccess;
}

const char* get_error_string(Result result) {
  return result == kInternalError ? "internal error" : "invalid argument";
}

const char* get_last_error(Comm*) {
  return "out of patience";
}

Result all_reduce(const void* from, void* to, size_t count, DataType type,
                  RedOp op, Comm* comm, Stream* stream) {
  if (FakeNccl::state().refuses) {
    return kInternalError;
  }
  return start(from, bytes_of(count, type), comm, stream, [=](auto& inputs) {
    tensor_at(to, count, type).copy_(combined(inputs, count, type, op));
  });
}

Result broadcast(const void* from, void* to, size_t count, DataType type,
                 int root, Comm* comm, Stream* stream) {
  return start(from, bytes_of(count, type), comm, stream, [=](auto& inputs) {
    std::memcpy(to, inputs[root].data(), bytes_of(count, type));
  });
}

Result all_gather(const void* from, void* to, size_t count, DataType type,
                  Comm* comm, Stream* stream) {
  return start(from, bytes_of(count, type), comm, stream, [=](auto& inputs) {
    auto* next = static_cast<char*>(to);
    for (auto& [rank, bytes] : inputs) {
      std::memcpy(next, bytes.data(), bytes.size());
      next += bytes.size();
    }
  });
}

Result reduce_scatter(const void* from, void* to, size_t count, DataType type,
                      RedOp op, Comm* comm, Stream* stream) {
  const auto ranks = static_cast<size_t>(comm->shared->size);
  const auto begin = static_cast<int64_t>(count) * comm->rank;
  return start(from, bytes_of(count * ranks, type), comm, stream,
               [=](auto& inputs) {
                 tensor_at(to, count, type)
                     .copy_(combined(inputs, count * ranks, type, op)
                                .narrow(0, begin, static_cast<int64_t>(count)));
               });
}

Result send(const void* from, size_t count, DataType type, int peer, Comm* comm,
            Stream* stream) {
  if (static_cast<void*>(stream) != &the_stream || peer < 0 ||
      peer >= comm->shared->size || (peer == comm->rank && groups == 0)) {
    return kInvalidArgument;
  }
  const auto* const data = static_cast<const char*>(from);
  const std::lock_guard lock(comm->shared->mutex);
  comm->shared->mail[{comm->rank, peer}].emplace_back(
      data, data + bytes_of(count, type));
  return Result::kSuccess;
}

Result recv(void* to, size_t count, DataType type, int peer, Comm* comm,
            Stream* stream) {
  if (static_cast<void*>(stream) != &the_stream || peer < 0 ||
      peer >= comm->shared->size) {
    return kInvalidArgument;
  }
  queue.emplace_back([=, shared = comm->shared, rank = comm->rank] {
    const std::lock_guard lock(shared->mutex);
    auto& mail = shared->mail[{peer, rank}];
    if (mail.empty()) {
      return false;
    }
    EXPECT_EQ(mail.front().size(), bytes_of(count, type));
    std::memcpy(to, mail.front().data(), mail.front().size());
    mail.pop_front();
    return true;
  });
  return Result::kSuccess;
}

Result group_start() {
  ++groups;
  return Result::kSuccess;
}

Result group_end() {
  --groups;
  return Result::kSuccess;
}

class Queue final : public detail::DeviceQueue {
 public:
  void* stream() override { return &the_stream; }
  void mark() override { is_marked_ = true; }
  bool is_done() override {
    while (is_marked_ && !queue.empty() && !FakeNccl::state().is_stuck &&
           queue.front()()) {
      queue.pop_front();
    }
    return queue.empty();
  }

 private:
  bool is_marked_ = false;
};

}  // namespace

const Api& fake_nccl() {
  static const Api api{
      .get_unique_id = get_unique_id,
      .comm_init_rank_config = comm_init,
      .comm_finalize = comm_finalize,
      .comm_destroy = comm_destroy,
      .comm_abort = comm_abort,
      .comm_get_async_error = comm_get_async_error,
      .get_error_string = get_error_string,
      .get_last_error = get_last_error,
      .all_reduce = all_reduce,
      .broadcast = broadcast,
      .all_gather = all_gather,
      .reduce_scatter = reduce_scatter,
      .send = send,
      .recv = recv,
      .group_start = group_start,
      .group_end = group_end,
  };
  return api;
}

std::unique_ptr<detail::DeviceQueue> fake_queue(c10::Device) {
  return std::make_unique<Queue>();
}

FakeNccl& FakeNccl::state() {
  static FakeNccl state;
  return state;
}

void FakeNccl::reset() {
  is_stuck = false;
  refuses = false;
  opened = 0;
  closed = 0;
  aborted = 0;
}

}  // namespace colonnade
