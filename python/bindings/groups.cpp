// python/bindings/groups.cpp
#include "bindings.h"
#include "colonnade/comm/group.h"
#include "colonnade/core/error.h"

#include <chrono>
#include <cmath>
#include <string>
#include <string_view>

namespace colonnade::python {
namespace {

namespace py = pybind11;
using at::Tensor;

ReduceOp reduce_op(std::string_view name) {
  std::string known;
  for (const ReduceOp op :
       {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin, ReduceOp::kProduct,
        ReduceOp::kBitAnd, ReduceOp::kBitOr, ReduceOp::kBitXor}) {
    if (name == name_of(op)) {
      return op;
    }
    known += concat(known.empty() ? "\"" : ", \"", name_of(op), '"');
  }
  throw InvalidArgument(
      concat("Group: there is no reduction \"", name, "\"; there are ", known));
}

double seconds(std::chrono::milliseconds time) {
  return static_cast<double>(time.count()) / 1e3;
}

}  // namespace

std::chrono::milliseconds timeout_of(double seconds) {
  check_arg(!std::isnan(seconds),
            "timeout: it is not a number; give seconds, or a negative number "
            "for ever");
  const std::chrono::duration<double> longest = kLongestTimeout;
  return std::chrono::milliseconds(
      std::llround(std::clamp(seconds, -1.0, longest.count()) * 1e3));
}

void bind_groups(py::module_& m) {
  py::class_<Group, GroupPtr>(
      m, "Group",
      "An ordered set of ranks that exchange tensors.\n\n"
      "All members call the same methods in the same order, with equal shapes "
      "and dtypes.\nAutograd does not see these calls: the differentiable "
      "forms "
      "are the mappings of\ncolonnade.parallel_layers.")
      .def_property_readonly("name", &Group::name,
                             "The name by which ops refer to the group.")
      .def_property_readonly("ranks", &Group::ranks,
                             "The members' ranks in the world, in group order.")
      .def("rank", &Group::rank, "This rank's place in the group.")
      .def("size", &Group::size, "How many ranks the group has.")
      .def_property(
          "timeout", [](const Group& g) { return seconds(g.timeout()); },
          [](Group& g, double limit) { g.set_timeout(timeout_of(limit)); },
          "How long a call may wait for a peer, in seconds; negative is for "
          "ever.")
      .def(
          "all_reduce",
          [](Group& g, Tensor x, const std::string& op) {
            g.all_reduce(x, reduce_op(op));
          },
          py::arg("x"), py::arg("op") = "sum", ReleaseGil(),
          "Combines x over the group in place: \"sum\", \"max\", \"min\", "
          "\"product\" or \"bitwise and\", \"or\", \"xor\".")
      .def(
          "all_gather",
          [](Group& g, Tensor out, const Tensor& x) { g.all_gather(out, x); },
          py::arg("out"), py::arg("x"), ReleaseGil(),
          "Puts every rank's x one after the other into out.")
      .def(
          "reduce_scatter",
          [](Group& g, Tensor out, const Tensor& x, const std::string& op) {
            g.reduce_scatter(out, x, reduce_op(op));
          },
          py::arg("out"), py::arg("x"), py::arg("op") = "sum", ReleaseGil(),
          "Combines x over the group; rank i gets its i-th part into out.")
      .def(
          "broadcast",
          [](Group& g, Tensor x, int root) { g.broadcast(x, root); },
          py::arg("x"), py::arg("root"), ReleaseGil(),
          "Makes x equal to that of the rank at place root of the group.")
      .def(
          "all_to_all",
          [](Group& g, Tensor out, const Tensor& x) { g.all_to_all(out, x); },
          py::arg("out"), py::arg("x"), ReleaseGil(),
          "Sends the j-th part of x to rank j; part i of out is from rank i.")
      .def("send", &Group::send, py::arg("x"), py::arg("dst"), ReleaseGil(),
           "Sends x to the rank at place dst of the group.")
      .def(
          "recv", [](Group& g, Tensor x, int src) { g.recv(x, src); },
          py::arg("x"), py::arg("src"), ReleaseGil(),
          "Receives into x what the rank at place src sends.")
      .def("barrier", &Group::barrier, ReleaseGil(),
           "Returns when every member has called it.")
      .def("__repr__", [](const Group& g) {
        return concat("<colonnade.Group \"", g.name(), "\": rank ", g.rank(),
                      " of ", g.size(), ">");
      });
}

}  // namespace colonnade::python
