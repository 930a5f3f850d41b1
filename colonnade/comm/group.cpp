// colonnade/comm/group.cpp
#include "colonnade/comm/group.h"

#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/reduce_kernels.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace colonnade {
namespace {

bool has(at::Device devices, at::Device device) {
  return devices.type() == device.type() &&
         (!devices.has_index() || devices.index() == device.index());
}

std::string list_of(const std::vector<at::Device>& devices) {
  std::string text;
  for (const at::Device device : devices) {
    text += concat(text.empty() ? "" : " and ", device);
  }
  return text;
}

/// A call under check. `text()` names it in errors, and costs nothing before.
class Check {
 public:
  Check(const Group& group, const char* method)
      : group_(group), method_(method) {}

  template <typename... Parts>
  void that(bool ok, const Parts&... parts) const {
    check_arg(ok, method_, " of group \"", group_.name(), "\" (rank ",
              group_.ranks()[static_cast<size_t>(group_.rank())],
              "): ", parts...);
  }

  void tensor(const char* name, const at::Tensor& x,
              const std::vector<at::Device>& devices) const {
    that(x.defined(), name, " is undefined; give a tensor");
    that(x.layout() == at::kStrided, name, " is ", x.layout(),
         "; only dense tensors are exchanged");
    const bool fits =
        devices.empty() ||
        std::any_of(devices.begin(), devices.end(),
                    [&](at::Device device) { return has(device, x.device()); });
    if (!fits) [[unlikely]] {  // or the list is made for every call
      that(false, name, " is on ", x.device(),
           ", and the group exchanges tensors on ", list_of(devices),
           "; move it there");
    }
    that(x.is_contiguous(), name, " of shape ", x.sizes(),
         " is not contiguous (strides ", x.strides(),
         "); call contiguous() first");
    that(!x.is_conj() && !x.is_neg(), name,
         " is a lazily conjugated or negated view; call resolve_conj() and "
         "resolve_neg() first");
  }

  void same_dtype(const at::Tensor& out, const at::Tensor& x) const {
    that(out.scalar_type() == x.scalar_type(), "out is ",
         c10::getDtypeNames(out.scalar_type()).first, " and x ",
         c10::getDtypeNames(x.scalar_type()).first,
         "; they must have one dtype");
  }

  void same_device(const at::Tensor& out, const at::Tensor& x) const {
    that(out.device() == x.device(), "out is on ", out.device(), " and x on ",
         x.device(), "; they must be on one device");
  }

  void reducible(const at::Tensor& x, ReduceOp op, bool can) const {
    that(can, "no ",
         op == ReduceOp::kMax || op == ReduceOp::kMin ? "max or min"
                                                      : name_of(op),
         " of ", c10::getDtypeNames(x.scalar_type()).first,
         " tensors; convert x to a type that has it");
  }

  void numel(const at::Tensor& out, int64_t want, const at::Tensor& x) const {
    that(out.numel() == want, "out of shape ", out.sizes(), " has ",
         out.numel(), " elements, and x of shape ", x.sizes(), " on ",
         group_.size(), " ranks makes ", want);
  }

  void divides(const at::Tensor& x) const {
    that(x.numel() % group_.size() == 0, "the ", x.numel(),
         " elements of x of shape ", x.sizes(), " do not divide over ",
         group_.size(), " ranks; pad x");
  }

  /// `part` may be the part of this rank in `whole`, or else lie apart.
  void apart(const at::Tensor& whole, const at::Tensor& part,
             bool own_part) const {
    const auto* const w = static_cast<const std::byte*>(whole.const_data_ptr());
    const auto* const p = static_cast<const std::byte*>(part.const_data_ptr());
    const bool overlap = p < w + whole.nbytes() && w < p + part.nbytes();
    that(!overlap || (own_part && p == w + static_cast<size_t>(group_.rank()) *
                                               part.nbytes()),
         "x and out share memory; give out memory of its own",
         own_part ? ", or this rank's part of the whole" : "");
  }

  void peer(const char* name, int rank) const {
    that(rank >= 0 && rank < group_.size(), name, " is ", rank,
         ", outside of the group's ranks [0, ", group_.size(), ")");
  }

  void other(const char* name, int rank) const {
    peer(name, rank);
    that(rank != group_.rank(), name, " is ", rank,
         ", this rank itself; copy the tensor instead");
  }

 private:
  const Group& group_;
  const char* method_;
};

/// Autograd must know that what it saved has changed.
void note_write(at::Tensor& x) {
  if (!x.is_inference()) {
    x.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace

Group::Group(std::string name, int rank, std::vector<int64_t> ranks,
             std::vector<at::Device> devices)
    : name_(std::move(name)),
      rank_(rank),
      ranks_(std::move(ranks)),
      devices_(std::move(devices)),
      timeout_(kDefaultTimeout) {}

Group::~Group() = default;

bool Group::reduces(const at::Tensor& x, ReduceOp op) const {
  return detail::is_reducible(x.scalar_type(), op);
}

void Group::keep_to(at::Device device) {
  std::replace_if(
      devices_.begin(), devices_.end(),
      [&](at::Device other) { return other.type() == device.type(); }, device);
}

template <typename Do>
void Group::run(const Call& call, Do method) {
  calls_.begin(call);
  try {
    method();
  } catch (const CommError& error) {
    throw CommError(with_place(error.what()));
  }
  calls_.end();
}

std::string Group::with_place(std::string_view reason) const {
  const CallRecord& mine = calls_.latest();
  const std::string text = to_string(mine.call);
  const std::string number =
      concat("call ", mine.number, " of group \"", name_, '"');
  const auto says = [&](std::string_view part) {
    return reason.find(part) != std::string_view::npos;
  };
  if (says(text) && (!mine.call.is_collective() || says(number))) {
    return std::string(reason);
  }
  return concat(reason, "; rank ", ranks_[static_cast<size_t>(rank_)],
                " was in ", describe(mine));
}

std::string Group::describe(const CallRecord& record) const {
  return concat(to_string(record.call), ", call ", record.number,
                " of group \"", name_, "\" (", detail::rank_list(ranks_), ')');
}

void Group::set_timeout(std::chrono::milliseconds timeout) {
  timeout_ = std::min(timeout, kLongestTimeout);
}

void Group::all_reduce(at::Tensor& x, ReduceOp op) {
  const Check check(*this, "all_reduce");
  check.tensor("x", x, devices_);
  check.reducible(x, op, reduces(x, op));
  Call call = Call::of(Collective::kAllReduce, x);
  call.key.reduce = op;
  note_write(x);
  run(call, [&] { do_all_reduce(x, op); });
}

void Group::all_gather(at::Tensor& out, const at::Tensor& x) {
  const Check check(*this, "all_gather");
  check.tensor("x", x, devices_);
  check.tensor("out", out, devices_);
  check.same_device(out, x);
  check.same_dtype(out, x);
  check.numel(out, x.numel() * size(), x);
  check.apart(out, x, /*own_part=*/true);
  note_write(out);
  run(Call::of(Collective::kAllGather, x), [&] { do_all_gather(out, x); });
}

void Group::reduce_scatter(at::Tensor& out, const at::Tensor& x, ReduceOp op) {
  const Check check(*this, "reduce_scatter");
  check.tensor("x", x, devices_);
  check.tensor("out", out, devices_);
  check.same_device(out, x);
  check.same_dtype(out, x);
  check.reducible(x, op, reduces(x, op));
  check.divides(x);
  check.numel(out, x.numel() / size(), x);
  check.apart(x, out, /*own_part=*/true);
  Call call = Call::of(Collective::kReduceScatter, x);
  call.key.reduce = op;
  note_write(out);
  run(call, [&] { do_reduce_scatter(out, x, op); });
}

void Group::broadcast(at::Tensor& x, int root) {
  const Check check(*this, "broadcast");
  check.tensor("x", x, devices_);
  check.peer("root", root);
  Call call = Call::of(Collective::kBroadcast, x);
  call.key.peer = root;
  if (root != rank_) {
    note_write(x);
  }
  run(call, [&] { do_broadcast(x, root); });
}

void Group::all_to_all(at::Tensor& out, const at::Tensor& x) {
  const Check check(*this, "all_to_all");
  check.tensor("x", x, devices_);
  check.tensor("out", out, devices_);
  check.same_device(out, x);
  check.same_dtype(out, x);
  check.divides(x);
  check.numel(out, x.numel(), x);
  check.apart(x, out, /*own_part=*/false);
  note_write(out);
  run(Call::of(Collective::kAllToAll, x), [&] { do_all_to_all(out, x); });
}

void Group::send(const at::Tensor& x, int dst) {
  const Check check(*this, "send");
  check.tensor("x", x, devices_);
  check.other("dst", dst);
  Call call = Call::of(Collective::kSend, x);
  call.key.peer = dst;
  run(call, [&] { do_send(x, dst); });
}

void Group::recv(at::Tensor& x, int src) {
  const Check check(*this, "recv");
  check.tensor("x", x, devices_);
  check.other("src", src);
  Call call = Call::of(Collective::kRecv, x);
  call.key.peer = src;
  note_write(x);
  run(call, [&] { do_recv(x, src); });
}

void Group::barrier() {
  run(Call::barrier(), [&] { do_barrier(); });
}

void Group::agree(const Call& call) {
  run(call, [&] {
    at::Tensor nothing;
    switch (call.key.collective) {
      case Collective::kSend:
        return do_send(at::empty({0}, at::kByte), call.key.peer);
      case Collective::kRecv:
        nothing = at::empty({0}, at::kByte);
        return do_recv(nothing, call.key.peer);
      default:
        return do_barrier();
    }
  });
}

}  // namespace colonnade
