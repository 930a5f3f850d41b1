// The collectives of torch.distributed, made of those of a Group.
#include "torch_calls.h"

#include "colonnade/core/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace colonnade::python {
namespace {

using at::Tensor;
using RedOp = c10d::ReduceOp;

/// A tensor as a Group takes it: itself, or a copy of its elements.
Tensor dense(const Tensor& x) {
  return x.resolve_conj().resolve_neg().contiguous();
}

/// The same memory under a version of its own: as with torch's backends,
/// autograd does not see what is written to it.
Tensor unseen(const Tensor& x) {
  return x.is_inference() ? x : x.variable_data();
}

/// A tensor that a Group writes to: itself, or one that is copied back.
class Out {
 public:
  explicit Out(const Tensor& x)
      : x_(x), dense_(dense(x)), unseen_(unseen(dense_)) {}

  Tensor& tensor() { return unseen_; }
  void put_back() const {
    if (!dense_.is_same(x_)) {
      x_.copy_(dense_);
    }
  }

 private:
  const Tensor& x_;
  Tensor dense_;
  Tensor unseen_;
};

Tensor flat(const Tensor& x) {
  return x.view(-1);
}

/// The bytes of bool, which are combined as 0 and 1; else `x` itself.
Tensor combinable(const Tensor& x, const Reduction& reduction) {
  return reduction.flags ? x.view(at::kByte) : x;
}

void divide(const Tensor& x, const Reduction& reduction, int64_t size) {
  if (reduction.divides) {
    x.div_(size);
  }
}

bool is_of_equal_parts(const Tensors& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const Tensor& x) {
    return x.numel() == tensors[0].numel();
  });
}

/// The tensors one after the other, where they lie so in memory; else nothing.
Tensor as_one(const Tensors& tensors) {
  const Tensor& first = tensors[0];
  const auto* next = static_cast<const std::byte*>(first.const_data_ptr());
  for (const Tensor& x : tensors) {
    if (!x.is_contiguous() || x.is_conj() || x.is_neg() ||
        !x.is_alias_of(first) || x.const_data_ptr() != next) {
      return {};
    }
    next += x.nbytes();
  }
  return first.as_strided(
      {first.numel() * static_cast<int64_t>(tensors.size())}, {1});
}

Tensor join(const Tensors& tensors) {
  if (Tensor whole = as_one(tensors); whole.defined()) {
    return whole;
  }
  Tensors parts;
  for (const Tensor& x : tensors) {
    parts.push_back(flat(dense(x)));
  }
  return at::cat(parts);
}

/// Equal tensors that a Group writes to as one.
class Outs {
 public:
  explicit Outs(const Tensors& tensors)
      : tensors_(tensors),
        whole_(as_one(tensors)),
        is_copy_(!whole_.defined()) {
    if (is_copy_) {
      whole_ =
          at::empty({tensors[0].numel() * static_cast<int64_t>(tensors.size())},
                    tensors[0].options());
    }
    whole_ = unseen(whole_);
  }

  Tensor& whole() { return whole_; }
  void put_back() const {
    int64_t begin = 0;
    for (const Tensor& x : tensors_) {
      if (is_copy_) {
        x.copy_(whole_.narrow(0, begin, x.numel()).view(x.sizes()));
        begin += x.numel();
      }
    }
  }

 private:
  const Tensors& tensors_;
  Tensor whole_;
  bool is_copy_;
};

void send(Group& group, const Tensor& x, int dst) {
  group.send(flat(dense(x)), dst);
}

void recv(Group& group, const Tensor& x, int src) {
  Out out(x);
  Tensor to = flat(out.tensor());
  group.recv(to, src);
  out.put_back();
}

/// What each rank sends to and expects from each, as all ranks see it.
class Counts {
 public:
  Counts(Group& group, const Tensors& outs, const Tensors& ins)
      : size_(group.size()) {
    Tensor mine = at::empty({2, size_}, at::kLong);
    auto* const own = mine.mutable_data_ptr<int64_t>();
    const auto numel = [](const Tensor& x) { return x.numel(); };
    std::transform(ins.begin(), ins.end(), own, numel);
    std::transform(outs.begin(), outs.end(), own + size_, numel);
    all_ = at::empty({size_, 2, size_}, at::kLong);
    group.all_gather(all_, mine);
  }

  int64_t sent(int64_t from, int64_t to) const { return at(from, 0, to); }
  int64_t expected(int64_t from, int64_t to) const { return at(to, 1, from); }

  void check_equal() const {
    for (int64_t from = 0; from < size_; ++from) {
      for (int64_t to = 0; to < size_; ++to) {
        check_arg(sent(from, to) == expected(from, to), "all_to_all: rank ",
                  from, " sends ", sent(from, to), " elements to rank ", to,
                  ", which expects ", expected(from, to),
                  "; make the output splits of a rank the input splits of the "
                  "others");
      }
    }
  }

  bool are_even() const {
    const auto* const begin = all_.const_data_ptr<int64_t>();
    return std::all_of(begin, begin + all_.numel(),
                       [&](int64_t n) { return n == begin[0]; });
  }

 private:
  int64_t at(int64_t rank, int64_t way, int64_t peer) const {
    return all_.const_data_ptr<int64_t>()[(rank * 2 + way) * size_ + peer];
  }

  int64_t size_;
  Tensor all_;
};

}  // namespace

Reduction reduction_of(const RedOp& op, at::ScalarType dtype,
                       const char* method) {
  const bool is_float = at::isFloatingType(dtype) || at::isComplexType(dtype);
  const bool is_bool = dtype == at::kBool;
  switch (static_cast<RedOp::RedOpType>(op)) {
    case RedOp::SUM:
      return {is_bool ? ReduceOp::kMax : ReduceOp::kSum, false, is_bool};
    case RedOp::AVG:
      if (!is_float) {
        throw InvalidArgument(
            concat(method, ": no average of ", c10::getDtypeNames(dtype).first,
                   " tensors; sum, then divide as you want it rounded"));
      }
      return {ReduceOp::kSum, true, false};
    case RedOp::PRODUCT:
      return {is_bool ? ReduceOp::kMin : ReduceOp::kProduct, false, is_bool};
    case RedOp::MIN:
      return {ReduceOp::kMin, false, is_bool};
    case RedOp::MAX:
      return {ReduceOp::kMax, false, is_bool};
    case RedOp::BAND:
      return {ReduceOp::kBitAnd, false, is_bool};
    case RedOp::BOR:
      return {ReduceOp::kBitOr, false, is_bool};
    case RedOp::BXOR:
      return {ReduceOp::kBitXor, false, is_bool};
    default:
      throw InvalidArgument(
          concat(method, ": PREMUL_SUM is NCCL's alone; multiply, then sum"));
  }
}

void all_reduce(Group& group, const Tensor& x, const Reduction& reduction) {
  Out out(x);
  Tensor to = combinable(out.tensor(), reduction);
  group.all_reduce(to, reduction.op);
  divide(to, reduction, group.size());
  out.put_back();
}

void sum_sparse(Group& group, const Tensor& x) {
  const Tensor own = x.coalesce();
  Tensor counts = at::empty({group.size()}, at::kLong);
  group.all_gather(counts, at::full({1}, own._nnz(), at::kLong));
  Tensors indices;
  Tensors values;
  for (int root = 0; root < group.size(); ++root) {
    const bool is_own = root == group.rank();
    std::vector<int64_t> shape = own._values().sizes().vec();
    shape[0] = counts.const_data_ptr<int64_t>()[root];
    indices.push_back(is_own
                          ? own._indices()
                          : at::empty({own.sparse_dim(), shape[0]}, at::kLong));
    values.push_back(is_own ? own._values()
                            : at::empty(shape, own._values().options()));
    broadcast(group, indices.back(), root);
    broadcast(group, values.back(), root);
  }
  x.copy_(at::_sparse_coo_tensor_unsafe(at::cat(indices, 1), at::cat(values),
                                        x.sizes())
              .coalesce());
}

void reduce(Group& group, const Tensor& x, const Reduction& reduction,
            int root) {
  all_reduce(group, group.rank() == root ? x : x.clone(), reduction);
}

void broadcast(Group& group, const Tensor& x, int root) {
  Out out(x);
  group.broadcast(out.tensor(), root);
  out.put_back();
}

void all_gather(Group& group, const Tensor& out, const Tensor& x) {
  Out to(out);
  group.all_gather(to.tensor(), dense(x));
  to.put_back();
}

void all_gather(Group& group, const Tensors& outs, const Tensor& x) {
  if (is_of_equal_parts(outs)) {
    Outs to(outs);
    group.all_gather(to.whole(), dense(x));
    to.put_back();
    return;
  }
  const Tensor& own = outs[static_cast<size_t>(group.rank())];
  own.copy_(x.reshape(own.sizes()));
  for (int root = 0; root < group.size(); ++root) {
    broadcast(group, outs[static_cast<size_t>(root)], root);
  }
}

void reduce_scatter(Group& group, const Tensor& out, const Tensor& x,
                    const Reduction& reduction) {
  Out to(out);
  Tensor part = combinable(to.tensor(), reduction);
  group.reduce_scatter(part, combinable(dense(x), reduction), reduction.op);
  divide(part, reduction, group.size());
  to.put_back();
}

void reduce_scatter(Group& group, const Tensor& out, const Tensors& ins,
                    const Reduction& reduction) {
  if (is_of_equal_parts(ins)) {
    reduce_scatter(group, out, join(ins), reduction);
    return;
  }
  for (int to = 0; to < group.size(); ++to) {
    const Tensor sum = ins[static_cast<size_t>(to)].clone();
    all_reduce(group, sum, reduction);
    if (to == group.rank()) {
      out.copy_(sum.reshape(out.sizes()));
    }
  }
}

void gather(Group& group, const Tensors& outs, const Tensor& x, int root) {
  if (group.rank() != root) {
    send(group, x, root);
    return;
  }
  for (int from = 0; from < group.size(); ++from) {
    const Tensor& out = outs[static_cast<size_t>(from)];
    if (from == root) {
      out.copy_(x.reshape(out.sizes()));
    } else {
      recv(group, out, from);
    }
  }
}

void scatter(Group& group, const Tensor& out, const Tensors& ins, int root) {
  if (group.rank() != root) {
    recv(group, out, root);
    return;
  }
  for (int to = 0; to < group.size(); ++to) {
    const Tensor& in = ins[static_cast<size_t>(to)];
    if (to == root) {
      out.copy_(in.reshape(out.sizes()));
    } else {
      send(group, in, to);
    }
  }
}

void all_to_all(Group& group, const Tensors& outs, const Tensors& ins) {
  const Counts counts(group, outs, ins);
  counts.check_equal();
  if (counts.are_even()) {
    Outs to(outs);
    group.all_to_all(to.whole(), join(ins));
    to.put_back();
    return;
  }
  // In round r, the ranks whose numbers add up to r, modulo their count, meet:
  // each has one partner a round, so nobody waits in a circle.
  const int size = group.size();
  for (int round = 0; round < size; ++round) {
    const int peer = (round - group.rank() + size) % size;
    const Tensor& in = ins[static_cast<size_t>(peer)];
    const Tensor& out = outs[static_cast<size_t>(peer)];
    if (peer == group.rank()) {
      out.copy_(in.reshape(out.sizes()));
    } else if (group.rank() < peer) {
      send(group, in, peer);
      recv(group, out, peer);
    } else {
      recv(group, out, peer);
      send(group, in, peer);
    }
  }
}

}  // namespace colonnade::python
