// colonnade/trace/detail/op_name.cpp
#include "colonnade/trace/detail/op_name.h"

namespace colonnade::trace::detail {

std::optional<c10::OperatorHandle> find_op(const std::string& name) {
  const size_t colons = name.find("::");
  if (colons == std::string::npos) {
    return std::nullopt;
  }
  const size_t dot = name.find('.', colons);
  return c10::Dispatcher::singleton().findSchema(
      {name.substr(0, dot),
       dot == std::string::npos ? "" : name.substr(dot + 1)});
}

std::string argument_name(const std::string& op, size_t index) {
  const auto found = find_op(op);
  return found.has_value() && index < found->schema().arguments().size()
             ? found->schema().arguments()[index].name()
             : std::to_string(index);
}

}  // namespace colonnade::trace::detail
