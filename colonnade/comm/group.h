// colonnade/comm/group.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/call_log.h"
#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {

/// How long a call waits for a peer where nobody says otherwise.
inline constexpr std::chrono::milliseconds kDefaultTimeout =
    std::chrono::minutes(10);

/// The longest timeout but for ever; longer ones are cut to it.
inline constexpr std::chrono::milliseconds kLongestTimeout =
    std::chrono::hours(24 * 365);

/// An ordered set of ranks that exchange tensors.
///
/// All members call the same collectives in the same order, with equal shapes
/// and dtypes. One thread per rank; not thread-safe. A group of one is silent.
/// Sums are taken in rank order, so that every rank ends with the same bits,
/// run after run. Autograd does not see these calls: the differentiable forms
/// are the mappings of parallel_layers/mappings.h.
///
/// Errors  InvalidArgument, before any communication, where a tensor is not
///         contiguous, not on a device of this group's, of a dtype that
///         cannot be reduced (bool is copied, never reduced), of the wrong
///         shape, or shares memory with the other.
///         CommError on every rank, naming the rank at fault, where a peer
///         failed, left, called something else or was silent for timeout().
///         After a CommError the group's world is unusable.
class COLONNADE_API Group : public torch::CustomClassHolder {
 public:
  ~Group() override;

  /// The name by which dispatcher ops refer to the group, such as "tp".
  const std::string& name() const { return name_; }
  int rank() const { return rank_; }  ///< In [0, size()).
  int size() const { return static_cast<int>(ranks_.size()); }
  /// The members' ranks in the world, in group order.
  const std::vector<int64_t>& ranks() const { return ranks_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  /// How long a call may wait for a peer; negative is for ever, and more than
  /// kLongestTimeout is that.
  void set_timeout(std::chrono::milliseconds timeout);

  /// Combines `x` over the group in place; equal bits on every rank.
  ///
  /// x     any shape
  /// Wire  2 (P - 1) / P * bytes(x) sent per rank, P = size()
  void all_reduce(at::Tensor& x, ReduceOp op = ReduceOp::kSum);

  /// Puts every rank's `x` one after the other, in rank order.
  ///
  /// out   size() * x.numel() elements, of any shape
  /// Wire  (P - 1) * bytes(x) received per rank
  void all_gather(at::Tensor& out, const at::Tensor& x);

  /// Combines `x` over the group and leaves rank i with its i-th part.
  ///
  /// out   x.numel() / size() elements, of any shape
  /// Wire  (P - 1) / P * bytes(x) sent per rank
  void reduce_scatter(at::Tensor& out, const at::Tensor& x,
                      ReduceOp op = ReduceOp::kSum);

  /// Makes `x` equal to that of rank `root` (a rank in this group).
  void broadcast(at::Tensor& x, int root);

  /// Sends the j-th of size() equal parts of `x` to rank j, and puts what rank
  /// i sent into the i-th part of `out`. Shapes agree in elements.
  void all_to_all(at::Tensor& out, const at::Tensor& x);

  /// Sends `x` to rank `dst`, which calls `recv` with the same shape and
  /// dtype. Returns when `x` may be changed.
  void send(const at::Tensor& x, int dst);
  void recv(at::Tensor& x, int src);

  /// Returns when every member has called it.
  void barrier();

  /// For a backend that moves the data of `call` itself: returns when all that
  /// take part in it have come with the same one, as if they made it here.
  void agree(const Call& call);

  /// This rank's last calls in the group.
  const CallLog& calls() const { return calls_; }
  /// Such as "all_reduce(float32 [4], sum), call 3 of group "tp" (ranks 0 and
  /// 1)".
  std::string describe(const CallRecord& record) const;

 protected:
  /// devices  whose tensors it exchanges; one without an index is any of its
  ///          type, and none at all any device
  Group(std::string name, int rank, std::vector<int64_t> ranks,
        std::vector<at::Device> devices);

  /// From here on, `device` is the only one of its type.
  void keep_to(at::Device device);

  /// The call that the public method noted before it called its virtual.
  const Call& call() const { return calls_.latest().call; }

  /// Whether it combines the elements of `x`.
  virtual bool reduces(const at::Tensor& x, ReduceOp op) const;

 private:
  virtual void do_all_reduce(at::Tensor& x, ReduceOp op) = 0;
  virtual void do_all_gather(at::Tensor& out, const at::Tensor& x) = 0;
  virtual void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                                 ReduceOp op) = 0;
  virtual void do_broadcast(at::Tensor& x, int root) = 0;
  virtual void do_all_to_all(at::Tensor& out, const at::Tensor& x) = 0;
  virtual void do_send(const at::Tensor& x, int dst) = 0;
  virtual void do_recv(at::Tensor& x, int src) = 0;
  virtual void do_barrier() = 0;

  /// Notes the call, makes it, and adds to a CommError where this rank was.
  template <typename Do>
  void run(const Call& call, Do method);
  std::string with_place(std::string_view reason) const;

  std::string name_;
  int rank_;
  std::vector<int64_t> ranks_;
  std::vector<at::Device> devices_;
  std::chrono::milliseconds timeout_;
  CallLog calls_;
};

using GroupPtr = c10::intrusive_ptr<Group>;

}  // namespace colonnade
