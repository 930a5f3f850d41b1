// colonnade/random/rank_random.cpp
#include "colonnade/random/rank_random.h"

#include "colonnade/random/detail/rank_random_key.h"
#include "colonnade/random/generators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/library.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace colonnade {
namespace {

using c10::FunctionSchema;
using c10::IValue;
using detail::kRankRandomKey;

thread_local uint64_t draws = 0;

/// The argument of type `Generator?`, if the op has one.
std::optional<size_t> generator_argument(const FunctionSchema& schema) {
  static const c10::TypePtr type =
      c10::OptionalType::create(c10::GeneratorType::get());
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    if (*schema.arguments()[i].type() == *type) {
      return i;
    }
  }
  return std::nullopt;
}

/// The device on which an op with these arguments draws: the one it is told,
/// else that of its first tensor, else the CPU.
c10::Device device_of(at::ArrayRef<IValue> arguments) {
  std::optional<c10::Device> device;
  for (const IValue& argument : arguments) {
    if (argument.isDevice()) {
      return argument.toDevice();
    }
    if (!device && argument.isTensor() && argument.toTensor().defined()) {
      device = argument.toTensor().device();
    }
  }
  return device.value_or(c10::kCPU);
}

/// The kernel of one random op: gives it the rank's generator where it was
/// given none, and goes on below the key.
class FillGenerator final : public c10::OperatorKernel {
 public:
  FillGenerator(size_t arguments, size_t generator)
      : arguments_(arguments), generator_(generator) {}

  void operator()(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                  torch::jit::Stack* stack) {
    ++draws;
    IValue& generator = torch::jit::peek(*stack, generator_, arguments_);
    if (generator.isNone()) {
      const c10::Device device =
          device_of(torch::jit::last(*stack, arguments_));
      if (!device.is_meta()) {  // draws nothing and has no generator
        generator = current_generator(device);
      }
    }
    // The key stays included: what the op calls is filled in as well.
    op.redispatchBoxed(
        keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER,
                                   kRankRandomKey),
        stack);
  }

 private:
  size_t arguments_;
  size_t generator_;
};

/// Asks the dispatcher rather than a list, since each torch has its own ops,
/// and does so late, when all of torch's ops are there. Ops without a
/// generator, also of libraries loaded later, fall through.
void register_kernels() {
  // Never destroyed: ranks may still run while the process ends.
  static auto* fallback = new torch::Library(
      torch::Library::IMPL, "_", kRankRandomKey, __FILE__, __LINE__);
  static auto* aten = new torch::Library(torch::Library::IMPL, "aten",
                                         kRankRandomKey, __FILE__, __LINE__);
  fallback->fallback(torch::CppFunction::makeFallthrough());

  constexpr std::string_view kNamespace = "aten::";
  for (const c10::OperatorName& name :
       c10::Dispatcher::singleton().getAllOpNames()) {
    const auto op = c10::Dispatcher::singleton().findSchema(name);
    if (!op || !name.name.starts_with(kNamespace)) {
      continue;
    }
    const FunctionSchema& schema = op->schema();
    if (const auto generator = generator_argument(schema)) {
      const std::string full_name = c10::toString(name);
      aten->impl(full_name.c_str(),
                 torch::CppFunction::makeFromBoxedFunctor(
                     std::make_unique<FillGenerator>(schema.arguments().size(),
                                                     *generator)));
    }
  }
}

}  // namespace

uint64_t detail::random_draws() {
  return draws;
}

RankRandomScope::RankRandomScope()
    : was_inside_(detail::in_rank_random_scope()) {
  static std::once_flag registered;
  std::call_once(registered, register_kernels);
  c10::impl::tls_set_dispatch_key_included(kRankRandomKey, true);
}

RankRandomScope::~RankRandomScope() {
  c10::impl::tls_set_dispatch_key_included(kRankRandomKey, was_inside_);
}

}  // namespace colonnade
