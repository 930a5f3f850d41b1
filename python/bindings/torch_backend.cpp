// The backend "colonnade" of torch.distributed.
#include "bindings.h"
#include "call_queue.h"
#include "colonnade/core/error.h"
#include "torch_calls.h"
#include "torch_checks.h"
#include "torch_world.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <pybind11/chrono.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::python {
namespace {

namespace py = pybind11;
using at::Tensor;
using c10d::OpType;
using std::chrono::milliseconds;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;
using BackendPtr = c10::intrusive_ptr<c10d::Backend>;

/// How long a process that ends waits for its calls.
constexpr milliseconds kSettling = std::chrono::seconds(3);

/// A group as torch.distributed describes it.
struct Description {
  TorchPlace place;
  std::string name;
  std::vector<int64_t> ranks;  ///< Of the members, in the default group.
};

/// For errors, where a member's number is not that of the default group.
std::string note_of(const Description& group) {
  std::string list;
  bool same = true;
  for (size_t i = 0; i < group.ranks.size(); ++i) {
    same &= group.ranks[i] == static_cast<int64_t>(i);
    list += concat(i == 0 ? "" : ", ", group.ranks[i]);
  }
  return same ? ""
              : concat("; the ranks of group \"", group.name,
                       "\" are, in order, ", list, " of the default group");
}

/// What calls are made on; kept by each that is not yet made.
class Ranks {
 public:
  explicit Ranks(const Description& description)
      : world_(make_torch_world(description.place)),
        note_(note_of(description)) {
    std::vector<int64_t> all(static_cast<size_t>(description.place.size));
    std::iota(all.begin(), all.end(), 0);
    group_ = world_->make_group(description.name, std::move(all));
  }

  std::string_view backend() const { return world_->backend(); }

  void make(const std::function<void(Group&)>& call, milliseconds timeout) {
    try {
      group_->set_timeout(timeout);
      call(*group_);
    } catch (const CommError& error) {
      throw CommError(error.what() + note_);
    } catch (const InvalidArgument&) {
      throw;  // before it has begun
    } catch (const std::exception& error) {
      world_->abort(error.what());
      throw;
    }
  }

  void abort(std::string_view why) noexcept { world_->abort(why); }

 private:
  WorldPtr world_;
  GroupPtr group_;
  std::string note_;
};

/// A message of torch's Gloo; an error names the rank it was for or from.
class PeerWork final : public c10d::Work {
 public:
  PeerWork(WorkPtr work, std::string what)
      : work_(std::move(work)), what_(std::move(what)) {}

  bool isCompleted() override { return work_->isCompleted(); }
  bool isSuccess() const override { return work_->isSuccess(); }
  std::exception_ptr exception() const override { return work_->exception(); }
  int sourceRank() const override { return work_->sourceRank(); }
  void synchronize() override { wait(); }
  void abort() override { work_->abort(); }
  bool wait(milliseconds limit = kNoTimeout) override {
    try {
      return work_->wait(limit);
    } catch (const std::exception& error) {
      const std::string text = error.what();
      throw CommError(concat(what_, ": ", text.substr(0, text.find('\n'))));
    }
  }

 private:
  WorkPtr work_;
  std::string what_;
};

/// Releases the interpreter where this thread has it, which is not known of a
/// destructor.
class GilRelease {
 public:
  GilRelease() {
    if (Py_IsInitialized() != 0 && PyGILState_Check() != 0) {
      release_.emplace();
    }
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

class TorchBackend final : public c10d::Backend, private TorchChecks {
 public:
  /// messages  how the group's ranks send to each other; null where it has one
  TorchBackend(Description description, BackendPtr messages)
      : Backend(description.place.rank, description.place.size),
        TorchChecks(description.place.rank, description.place.size),
        description_(std::move(description)),
        ranks_(std::make_shared<Ranks>(description_)),
        messages_(std::move(messages)),
        queue_(std::make_shared<CallQueue>()) {
    const std::lock_guard lock(all_mutex());
    all().insert(this);
  }

  ~TorchBackend() override {
    const GilRelease release;  // calls that nobody has waited for may need it
    {
      const std::lock_guard lock(all_mutex());
      all().erase(this);
    }
    queue_->finish();
    ranks_.reset();
    messages_.reset();
  }

  /// Ends the calls of all groups, since the process ends. Those that the other
  /// ranks have made too are done soon.
  static void end_all() {
    const std::lock_guard lock(all_mutex());
    for (TorchBackend* const backend : all()) {
      if (!backend->queue_->settles(kSettling)) {
        backend->ranks_->abort("its process ended during a call");
      }
      backend->queue_->finish();
    }
  }

  const std::string getBackendName() const override { return "colonnade"; }
  c10::intrusive_ptr<Options> getBackendOptions() override {
    return c10::make_intrusive<Options>("colonnade", timeout());
  }
  void setTimeout(milliseconds timeout) override {
    description_.place.timeout = timeout;
    if (messages_ != nullptr) {
      messages_->setTimeout(timeout);
    }
  }
  c10d::ErrorType getError() override { return c10d::ErrorType::SUCCESS; }
  void abort() override { ranks_->abort("its process group was aborted"); }
  void setSequenceNumberForGroup() override {}
  uint64_t getSequenceNumberForGroup() override { return calls_; }

  /// The group of `ranks`, of which each calls this; nothing for others.
  BackendPtr split(const c10::intrusive_ptr<c10d::Store>& store,
                   const std::vector<int>& ranks,
                   const c10::intrusive_ptr<Options>& options) override {
    const auto place = std::find(ranks.begin(), ranks.end(), rank_);
    if (place == ranks.end()) {
      return nullptr;
    }
    // Parts that are made at once may have been given one name.
    const auto own_store = [&](const char* what) {
      return c10::make_intrusive<c10d::PrefixStore>(
          concat(what, "/", at::IntArrayRef(globals(ranks))), store);
    };
    Description part = description_;
    part.place.store = own_store("colonnade");
    part.place.rank = static_cast<int>(place - ranks.begin());
    part.place.size = static_cast<int>(ranks.size());
    part.place.timeout = options->timeout;
    part.name = options->group_name;
    part.ranks = globals(ranks);
    BackendPtr messages;
    if (ranks.size() > 1) {
      messages = messages_->split(own_store("messages"), ranks,
                                  messages_->getBackendOptions());
    }
    return c10::make_intrusive<TorchBackend>(std::move(part),
                                             std::move(messages));
  }

  WorkPtr allreduce(Tensors& tensors,
                    const c10d::AllreduceOptions& options) override {
    check_one(tensors, "all_reduce");
    if (tensors[0].defined() && tensors[0].layout() == at::kSparse &&
        tensors[0].device().is_cpu()) {
      check_call(options.reduceOp == c10d::ReduceOp::SUM, "all_reduce",
                 "sparse tensors can only be summed");
      return start(OpType::_ALLREDUCE_SPARSE, "colonnade:all_reduce_sparse",
                   options, tensors, tensors,
                   [x = tensors[0]](Group& group) { sum_sparse(group, x); });
    }
    return reduce_all(tensors, options, OpType::ALLREDUCE,
                      "colonnade:all_reduce");
  }

  WorkPtr allreduce_coalesced(
      Tensors& tensors,
      const c10d::AllreduceCoalescedOptions& options) override {
    return reduce_all(tensors, options, OpType::ALLREDUCE_COALESCED,
                      "colonnade:all_reduce_coalesced");
  }

  WorkPtr reduce(Tensors& tensors,
                 const c10d::ReduceOptions& options) override {
    check_one(tensors, "reduce");
    check_tensors(tensors, "reduce", "the tensor");
    const Reduction reduction =
        reduction_of(options.reduceOp, tensors[0].scalar_type(), "reduce");
    const int root = rank_of(options.rootRank, "reduce");
    return start(OpType::REDUCE, "colonnade:reduce", options, tensors, tensors,
                 [x = tensors[0], reduction, root](Group& group) {
                   python::reduce(group, x, reduction, root);
                 });
  }

  WorkPtr broadcast(Tensors& tensors,
                    const c10d::BroadcastOptions& options) override {
    check_one(tensors, "broadcast");
    check_tensors(tensors, "broadcast", "the tensor");
    const int root = rank_of(options.rootRank, "broadcast");
    return start(OpType::BROADCAST, "colonnade:broadcast", options, tensors,
                 tensors, [x = tensors[0], root](Group& group) {
                   python::broadcast(group, x, root);
                 });
  }

  WorkPtr allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                    const c10d::AllgatherOptions& options) override {
    const Tensors& outs = list_of(outputs, "all_gather", "output list");
    check_one(inputs, "all_gather");
    check_tensors(inputs, "all_gather", "the tensor");
    check_like(outs, inputs[0], "all_gather", "output");
    check_size(outs[static_cast<size_t>(getRank())], inputs[0], "all_gather",
               "this rank's output");
    return start(
        OpType::ALLGATHER, "colonnade:all_gather", options, inputs, outs,
        [outs, x = inputs[0]](Group& group) { all_gather(group, outs, x); });
  }

  WorkPtr _allgather_base(Tensor& output, Tensor& input,
                          const c10d::AllgatherOptions& options) override {
    Tensors outputs = {output};
    Tensors inputs = {input};
    return gather_all(outputs, inputs, options, OpType::_ALLGATHER_BASE,
                      "colonnade:all_gather_into_tensor");
  }

  WorkPtr allgather_into_tensor_coalesced(
      Tensors& outputs, Tensors& inputs,
      const c10d::AllgatherOptions& options) override {
    return gather_all(outputs, inputs, options, OpType::ALLGATHER_COALESCED,
                      "colonnade:all_gather_into_tensor_coalesced");
  }

  WorkPtr reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                         const c10d::ReduceScatterOptions& options) override {
    const Tensors& ins = list_of(inputs, "reduce_scatter", "input list");
    check_one(outputs, "reduce_scatter");
    check_tensors(outputs, "reduce_scatter", "the output");
    check_like(ins, outputs[0], "reduce_scatter", "input");
    check_size(ins[static_cast<size_t>(getRank())], outputs[0],
               "reduce_scatter", "this rank's input");
    const Reduction reduction = reduction_of(
        options.reduceOp, outputs[0].scalar_type(), "reduce_scatter");
    return start(OpType::REDUCE_SCATTER, "colonnade:reduce_scatter", options,
                 ins, outputs,
                 [out = outputs[0], ins, reduction](Group& group) {
                   python::reduce_scatter(group, out, ins, reduction);
                 });
  }

  WorkPtr _reduce_scatter_base(
      Tensor& output, Tensor& input,
      const c10d::ReduceScatterOptions& options) override {
    Tensors outputs = {output};
    Tensors inputs = {input};
    return reduce_scatter_all(outputs, inputs, options,
                              OpType::_REDUCE_SCATTER_BASE,
                              "colonnade:reduce_scatter_tensor");
  }

  WorkPtr reduce_scatter_tensor_coalesced(
      Tensors& outputs, Tensors& inputs,
      const c10d::ReduceScatterOptions& options) override {
    return reduce_scatter_all(outputs, inputs, options, OpType::COALESCED,
                              "colonnade:reduce_scatter_tensor_coalesced");
  }

  WorkPtr alltoall_base(Tensor& output, Tensor& input,
                        std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits,
                        const c10d::AllToAllOptions& options) override {
    check_tensors({output}, "all_to_all", "the output");
    check_tensors({input}, "all_to_all", "the input");
    return exchange(parts_of(output, output_splits, "output"),
                    parts_of(input, input_splits, "input"), {output}, {input},
                    options, OpType::ALLTOALL_BASE);
  }

  WorkPtr alltoall(Tensors& outputs, Tensors& inputs,
                   const c10d::AllToAllOptions& options) override {
    check_count(outputs, "all_to_all", "output");
    check_count(inputs, "all_to_all", "input");
    return exchange(outputs, inputs, outputs, inputs, options,
                    OpType::ALLTOALL);
  }

  WorkPtr gather(std::vector<Tensors>& outputs, Tensors& inputs,
                 const c10d::GatherOptions& options) override {
    check_one(inputs, "gather");
    check_tensors(inputs, "gather", "the tensor");
    const int root = rank_of(options.rootRank, "gather");
    Tensors outs;
    if (root == getRank()) {
      outs = list_of(outputs, "gather", "output list");
      check_like(outs, inputs[0], "gather", "output");
      for (const Tensor& out : outs) {
        check_size(out, inputs[0], "gather", "an output");
      }
    }
    return start(OpType::GATHER, "colonnade:gather", options, inputs, outs,
                 [outs, x = inputs[0], root](Group& group) {
                   python::gather(group, outs, x, root);
                 });
  }

  WorkPtr scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                  const c10d::ScatterOptions& options) override {
    check_one(outputs, "scatter");
    check_tensors(outputs, "scatter", "the tensor");
    const int root = rank_of(options.rootRank, "scatter");
    Tensors ins;
    if (root == getRank()) {
      ins = list_of(inputs, "scatter", "input list");
      check_like(ins, outputs[0], "scatter", "input");
      for (const Tensor& in : ins) {
        check_size(in, outputs[0], "scatter", "an input");
      }
    }
    return start(OpType::SCATTER, "colonnade:scatter", options, ins, outputs,
                 [out = outputs[0], ins, root](Group& group) {
                   python::scatter(group, out, ins, root);
                 });
  }

  WorkPtr barrier(const c10d::BarrierOptions& options) override {
    return start(OpType::BARRIER, "colonnade:barrier", options, {}, {},
                 [](Group& group) { group.barrier(); });
  }

  WorkPtr send(Tensors& tensors, int dst, int tag) override {
    Tensors message = {check_message(tensors, "send").contiguous()};
    check_peer(dst, "send");
    return c10::make_intrusive<PeerWork>(
        messages_->send(message, dst, tag),
        concat("send of rank ", getRank(), " to rank ", dst, note()));
  }

  WorkPtr recv(Tensors& tensors, int src, int tag) override {
    check_writable(check_message(tensors, "recv"));
    check_peer(src, "recv");
    return c10::make_intrusive<PeerWork>(
        messages_->recv(tensors, src, tag),
        concat("recv of rank ", getRank(), " from rank ", src, note()));
  }

  WorkPtr recvAnysource(Tensors& tensors, int tag) override {
    check_writable(check_message(tensors, "recv"));
    check_peer(getRank() == 0 ? 1 : 0, "recv");
    return c10::make_intrusive<PeerWork>(
        messages_->recvAnysource(tensors, tag),
        concat("recv of rank ", getRank(), " from any rank", note()));
  }

  /// How long a call waits for a peer where it does not say so itself.
  milliseconds timeout() const { return description_.place.timeout; }
  /// What the ranks exchange tensors over: a name of the backend table.
  std::string_view transport() const { return ranks_->backend(); }

 private:
  /// Those ranks of this group as the default group has them.
  std::vector<int64_t> globals(const std::vector<int>& ranks) const {
    std::vector<int64_t> result;
    for (const int rank : ranks) {
      result.push_back(description_.ranks[static_cast<size_t>(rank)]);
    }
    return result;
  }
  std::string note() const { return note_of(description_); }

  template <typename Options>
  WorkPtr start(OpType type, const char* title, const Options& options,
                const Tensors& inputs, Tensors outputs,
                std::function<void(Group&)> call) {
    const milliseconds limit =
        options.timeout == c10d::kUnsetTimeout ? timeout() : options.timeout;
    auto queued = c10::make_intrusive<QueuedCall>(
        queue_, rank_, type, title, inputs, std::move(outputs),
        [ranks = ranks_, call = std::move(call), limit] {
          ranks->make(call, limit);
        });
    ++calls_;
    queue_->add(queued, options.asyncOp);
    if (!options.asyncOp) {
      queue_->help(*queued);
    }
    return queued;
  }

  WorkPtr reduce_all(const Tensors& tensors,
                     const c10d::AllreduceOptions& options, OpType type,
                     const char* title) {
    check_tensors(tensors, "all_reduce", "the tensor");
    std::vector<Reduction> reductions;
    for (const Tensor& x : tensors) {
      reductions.push_back(
          reduction_of(options.reduceOp, x.scalar_type(), "all_reduce"));
    }
    return start(type, title, options, tensors, tensors,
                 [tensors, reductions](Group& group) {
                   for (size_t i = 0; i < tensors.size(); ++i) {
                     all_reduce(group, tensors[i], reductions[i]);
                   }
                 });
  }

  WorkPtr gather_all(const Tensors& outputs, const Tensors& inputs,
                     const c10d::AllgatherOptions& options, OpType type,
                     const char* title) {
    check_pairs(outputs, inputs, "all_gather", "output", "input");
    return start(type, title, options, inputs, outputs,
                 [outputs, inputs](Group& group) {
                   for (size_t i = 0; i < inputs.size(); ++i) {
                     all_gather(group, outputs[i], inputs[i]);
                   }
                 });
  }

  WorkPtr reduce_scatter_all(const Tensors& outputs, const Tensors& inputs,
                             const c10d::ReduceScatterOptions& options,
                             OpType type, const char* title) {
    check_pairs(inputs, outputs, "reduce_scatter", "input", "output");
    std::vector<Reduction> reductions;
    for (const Tensor& x : outputs) {
      reductions.push_back(
          reduction_of(options.reduceOp, x.scalar_type(), "reduce_scatter"));
    }
    return start(type, title, options, inputs, outputs,
                 [outputs, inputs, reductions](Group& group) {
                   for (size_t i = 0; i < inputs.size(); ++i) {
                     python::reduce_scatter(group, outputs[i], inputs[i],
                                            reductions[i]);
                   }
                 });
  }

  WorkPtr exchange(const Tensors& outs, const Tensors& ins, Tensors outputs,
                   const Tensors& inputs, const c10d::AllToAllOptions& options,
                   OpType type) {
    check_like(outs, ins[0], "all_to_all", "output");
    check_like(ins, ins[0], "all_to_all", "input");
    return start(type, "colonnade:all_to_all", options, inputs,
                 std::move(outputs),
                 [outs, ins](Group& group) { all_to_all(group, outs, ins); });
  }

  static std::set<TorchBackend*>& all() {
    static std::set<TorchBackend*> backends;
    return backends;
  }
  static std::mutex& all_mutex() {
    static std::mutex mutex;
    return mutex;
  }

  Description description_;
  std::shared_ptr<Ranks> ranks_;
  BackendPtr messages_;
  std::shared_ptr<CallQueue> queue_;
  uint64_t calls_ = 0;
};

}  // namespace

void bind_torch_backend(py::module_& m) {
  py::module_::import("torch._C._distributed_c10d");  // for the base
  py::class_<TorchBackend, c10d::Backend, c10::intrusive_ptr<TorchBackend>>(
      m, "TorchBackend")
      .def_property_readonly("timeout", &TorchBackend::timeout)
      .def_property_readonly("transport", &TorchBackend::transport);
  m.def("end_torch_calls", &TorchBackend::end_all, ReleaseGil());
  m.def(
      "make_torch_backend",
      [](c10::intrusive_ptr<c10d::Store> store, int rank, int size,
         milliseconds timeout, std::string name, std::vector<int64_t> ranks,
         std::string backend, std::string network, BackendPtr messages) {
        return c10::make_intrusive<TorchBackend>(
            Description{{std::move(store), rank, size, timeout,
                         std::move(backend), std::move(network)},
                        std::move(name),
                        std::move(ranks)},
            std::move(messages));
      },
      py::arg("store"), py::arg("rank"), py::arg("size"), py::arg("timeout"),
      py::arg("name"), py::arg("ranks"), py::arg("backend"), py::arg("network"),
      py::arg("messages"), ReleaseGil());
}

}  // namespace colonnade::python
