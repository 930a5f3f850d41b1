// colonnade/trace/detail/program.h
#pragma once

#include "colonnade/comm/call_site.h"
#include "colonnade/core/api.h"
#include "colonnade/trace/detail/direct_call.h"
#include "colonnade/trace/detail/operand.h"
#include "colonnade/trace/graph.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace colonnade::trace::detail {

/// A dispatcher call with everything looked up that can be.
struct Instruction {
  explicit Instruction(c10::OperatorHandle handle) : op(handle) {}

  c10::OperatorHandle op;
  size_t node = 0;  ///< In Graph::nodes or Graph::prologue.
  std::vector<Operand> arguments;
  std::vector<Result> results;
  std::vector<int> dead;  ///< Values that nobody asks for after this.
  DirectCall direct;      ///< Empty: called through the stack.
  int result = -1;        ///< The value that a direct call gives; -1: none.
  CallSite site;          ///< Whose collectives it makes; empty: none.
};

/// A graph made ready to run on one kind of device. Not changed by running, so
/// that all ranks and sessions share it.
class COLONNADE_API Program {
 public:
  /// graph  checked
  Program(Graph graph, at::Device device);

  const Graph& graph() const { return graph_; }
  const std::vector<Instruction>& prologue() const { return prologue_; }
  const std::vector<Instruction>& instructions() const { return main_; }
  const std::vector<Operand>& outputs() const { return outputs_; }
  /// Values of weights and of the prologue that only the prologue asks for.
  const std::vector<int>& spent() const { return spent_; }

 private:
  Instruction compile(const Node& node) const;
  Operand compile(const Argument& argument, const c10::TypePtr& type) const;
  void find_last_uses();
  std::vector<bool> find_foreign() const;
  void find_direct_calls();
  void find_sites();

  Graph graph_;
  at::Device device_;
  std::vector<Instruction> prologue_;
  std::vector<Instruction> main_;
  std::vector<Operand> outputs_;
  std::vector<int> spent_;
};

/// Called around each instruction, for profiles.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void before(const Instruction& instruction) = 0;
  virtual void after(const Instruction& instruction) = 0;
};

/// One rank's values while a program runs. Used by one thread at a time.
class COLONNADE_API Frame {
 public:
  /// weights  one for each of Graph::weights, on the program's device. Runs the
  ///          prologue, so is called on the rank's thread, as run is. Those
  ///          that only the prologue asks for are not kept.
  Frame(std::shared_ptr<const Program> program,
        const std::vector<at::Tensor>& weights);

  /// Puts a session's state in place of what the weight's value was.
  void set_weight(size_t weight, const at::Tensor& tensor);

  /// Runs the program in inference mode and returns the leaves of its output.
  ///
  /// inputs   the leaves of the inputs
  /// Errors   what an op throws; InvalidArgument where a guard finds another
  ///          value than was recorded
  std::vector<c10::IValue> run(const std::vector<c10::IValue>& inputs,
                               const Numbers& numbers,
                               RunObserver* observer = nullptr);

  const Program& program() const { return *program_; }

 private:
  void execute(const Instruction& instruction, const Sources& sources);
  void call(const Instruction& instruction);
  void execute_direct(const Instruction& instruction, const Sources& sources);
  c10::IValue operand(const Operand& operand, const Sources& sources);
  void forget();

  std::shared_ptr<const Program> program_;
  std::vector<c10::IValue> values_;
  std::vector<bool> bound_;  // values of weights, which stay
  torch::jit::Stack stack_;
};

}  // namespace colonnade::trace::detail
