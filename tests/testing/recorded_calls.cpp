// tests/testing/recorded_calls.cpp
#include "tests/testing/recorded_calls.h"

#include "colonnade/parallel_layers/detail/recording.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/record_function.h>

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <sstream>
#include <utility>

namespace colonnade::testing {
namespace {

using parallel_layers::detail::kRecorderKey;

/// Ops pass the recorder's key by, where the program has no recorder.
const auto fallthrough = [] {
  auto& dispatcher = c10::Dispatcher::singleton();
  return dispatcher.hasBackendFallbackForDispatchKey(kRecorderKey)
             ? std::optional<c10::RegistrationHandleRAII>()
             : dispatcher.registerFallback(
                   kRecorderKey, c10::KernelFunction::makeFallthrough(),
                   "tests/testing/recorded_calls.cpp");
}();

struct Calls {
  std::vector<std::string> texts;
  int depth = 0;
};

thread_local Calls* current = nullptr;

struct CallContext : at::ObserverContext {
  c10::FunctionSchema schema{"", "", {}, {}};
  std::vector<at::Tensor> inputs;
};

std::string text_of(const at::RecordFunction& call) {
  std::ostringstream text;
  text << c10::toString(*call.operator_name()) << "(";
  const char* separator = "";
  for (const c10::IValue& value : call.inputs()) {
    if (!value.isTensor() && !value.isTensorList()) {
      text << std::exchange(separator, ", ") << value;
    }
  }
  text << ")";
  return text.str();
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& call) {
  if (current->depth++ > 0) {
    return nullptr;
  }
  current->texts.push_back(text_of(call));
  auto context = std::make_unique<CallContext>();
  context->schema = *call.operator_schema();
  for (const c10::IValue& value : call.inputs()) {
    context->inputs.push_back(value.isTensor() ? value.toTensor()
                                               : at::Tensor());
  }
  return context;
}

void expect_true_schema(const CallContext& context,
                        const std::vector<c10::IValue>& outputs) {
  const c10::FunctionSchema& schema = context.schema;
  if (schema.getNamespace() != "colonnade") {
    return;
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    for (size_t j = 0; j < context.inputs.size(); ++j) {
      if (context.inputs[j].defined() &&
          outputs[i].toTensor().is_alias_of(context.inputs[j])) {
        EXPECT_TRUE(schema.may_alias({c10::SchemaArgType::output, i},
                                     {c10::SchemaArgType::input, j}))
            << schema << ": output " << i << " is input " << j;
      }
    }
  }
}

void end(const at::RecordFunction& call, at::ObserverContext* context) {
  if (--current->depth == 0) {
    expect_true_schema(static_cast<CallContext&>(*context), call.outputs());
  }
}

}  // namespace

std::vector<std::string> recorded_calls(const std::function<void()>& body) {
  Calls calls;
  current = &calls;
  const at::CallbackHandle handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(&begin, &end)
                                     .needsInputs(true)
                                     .needsOutputs(true)
                                     .scopes({at::RecordScope::FUNCTION}));
  {
    const c10::impl::IncludeDispatchKeyGuard recording(kRecorderKey);
    body();
  }
  at::removeCallback(handle);
  current = nullptr;
  return calls.texts;
}

}  // namespace colonnade::testing
