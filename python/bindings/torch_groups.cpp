// python/bindings/torch_groups.cpp
// Groups over those of torch.distributed, for processes that have initialised
// it.
#include "bindings.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_state/mesh.h"
#include "colonnade/random/generators.h"
#include "torch_world.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <pybind11/chrono.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::python {
namespace {

namespace py = pybind11;
using at::Tensor;
using ProcessGroupPtr = c10::intrusive_ptr<c10d::ProcessGroup>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;

c10d::ReduceOp torch_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kMax:
      return c10d::ReduceOp::MAX;
    case ReduceOp::kMin:
      return c10d::ReduceOp::MIN;
    case ReduceOp::kProduct:
      return c10d::ReduceOp::PRODUCT;
    case ReduceOp::kBitAnd:
      return c10d::ReduceOp::BAND;
    case ReduceOp::kBitOr:
      return c10d::ReduceOp::BOR;
    case ReduceOp::kBitXor:
      return c10d::ReduceOp::BXOR;
    default:
      return c10d::ReduceOp::SUM;
  }
}

/// A Group whose collectives are those of a ProcessGroup. What torch's backend
/// does not check (that all ranks make the same call), it does not.
class TorchGroup final : public Group {
 public:
  TorchGroup(std::string group_name, int own_rank,
             std::vector<int64_t> world_ranks, at::DeviceType device,
             ProcessGroupPtr torchs)
      : Group(std::move(group_name), own_rank, std::move(world_ranks),
              {device}),
        torchs_(std::move(torchs)) {}

 private:
  void do_all_reduce(Tensor& x, ReduceOp op) override {
    run([&] {
      std::vector<Tensor> tensors = {x};
      c10d::AllreduceOptions options;
      options.reduceOp = torch_op(op);
      return torchs_->allreduce(tensors, options);
    });
  }

  void do_all_gather(Tensor& out, const Tensor& x) override {
    run([&] {
      Tensor to = out.view(-1);
      Tensor from = x.view(-1);
      return torchs_->_allgather_base(to, from);
    });
  }

  void do_reduce_scatter(Tensor& out, const Tensor& x, ReduceOp op) override {
    run([&] {
      Tensor to = out.view(-1);
      Tensor from = x.view(-1);
      c10d::ReduceScatterOptions options;
      options.reduceOp = torch_op(op);
      return torchs_->_reduce_scatter_base(to, from, options);
    });
  }

  void do_broadcast(Tensor& x, int root) override {
    run([&] {
      std::vector<Tensor> tensors = {x};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return torchs_->broadcast(tensors, options);
    });
  }

  void do_all_to_all(Tensor& out, const Tensor& x) override {
    run([&] {
      Tensor to = out.view(-1);
      Tensor from = x.view(-1);
      std::vector<int64_t> even;
      return torchs_->alltoall_base(to, from, even, even);
    });
  }

  void do_send(const Tensor& x, int dst) override {
    run([&] {
      std::vector<Tensor> tensors = {x};
      return torchs_->send(tensors, dst, /*tag=*/0);
    });
  }

  void do_recv(Tensor& x, int src) override {
    run([&] {
      std::vector<Tensor> tensors = {x};
      return torchs_->recv(tensors, src, /*tag=*/0);
    });
  }

  void do_barrier() override {
    run([&] { return torchs_->barrier(); });
  }

  /// Starts a collective and waits for it.
  template <typename Start>
  void run(Start&& start) {
    try {
      const WorkPtr work = start();
      work->wait();
    } catch (const std::exception& error) {
      throw CommError(concat("torch.distributed: ", to_string(call()),
                             " of group \"", name(), "\": ", error.what()));
    }
  }

  ProcessGroupPtr torchs_;
};

/// The world of a process in torch.distributed's default group.
class TorchWorld final : public World {
 public:
  TorchWorld(int rank, int size, at::DeviceType device)
      : rank_(rank), size_(size), device_(device) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string_view backend() const override { return "torch.distributed"; }

  /// Torch's groups are made by all ranks together, so before make_group.
  void add(std::vector<int64_t> ranks, ProcessGroupPtr torchs) {
    groups_[std::move(ranks)] = std::move(torchs);
  }

  GroupPtr make_group(std::string name, std::vector<int64_t> ranks) override {
    check_ranks(name, ranks);
    const auto found = groups_.find(ranks);
    check_arg(found != groups_.end(),
              "make_group: torch.distributed has no "
              "group for \"",
              name,
              "\"; make it with parallel_state.new_group "
              "on all ranks of the world");
    const auto place = std::ranges::find(ranks, int64_t{rank_});
    const auto own = static_cast<int>(place - ranks.begin());
    return c10::make_intrusive<TorchGroup>(
        std::move(name), own, std::move(ranks), device_, found->second);
  }

  // Its launcher ends the other processes, as torch has it.
  void abort(std::string_view) noexcept override {}
  void leave() noexcept override {}

 private:
  int rank_;
  int size_;
  at::DeviceType device_;
  std::map<std::vector<int64_t>, ProcessGroupPtr> groups_;
};

}  // namespace

void bind_torch_groups(py::module_& m) {
  py::class_<TorchWorld, std::shared_ptr<TorchWorld>>(m, "TorchWorld")
      .def(py::init([](int rank, int size, const at::Device& device) {
        return std::make_shared<TorchWorld>(rank, size, device.type());
      }))
      .def("add", &TorchWorld::add);
  m.def("has_world", [] { return RankContext::current()->world() != nullptr; });
  // Tells the world of this thread from others.
  m.def("world_id", [] {
    return reinterpret_cast<uintptr_t>(RankContext::current()->world().get());
  });
  m.def("enter_world", [](const std::shared_ptr<TorchWorld>& world) {
    RankContext::current()->set_world(world);
  });
  m.def(
      "enter_own_world",
      [](c10::intrusive_ptr<c10d::Store> store, int rank, int size,
         std::chrono::milliseconds timeout, std::string backend,
         std::string network) {
        RankContext::current()->set_world(
            make_torch_world({std::move(store), rank, size, timeout,
                              std::move(backend), std::move(network)}));
      },
      py::arg("store"), py::arg("rank"), py::arg("size"), py::arg("timeout"),
      py::arg("backend"), py::arg("network"), ReleaseGil());
  m.def("leave_world", [] { RankContext::current()->set_world(nullptr); });
  m.def("mesh_groups", [](int64_t world_size, int64_t tp) {
    const Mesh mesh(world_size, tp);
    return std::pair(mesh.tensor_model_parallel_groups(),
                     mesh.data_parallel_groups());
  });
  m.def("tensor_parallel_seed", &tensor_parallel_seed);
}

}  // namespace colonnade::python
