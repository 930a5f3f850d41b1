// colonnade/trace/detail/argument_types.cpp
#include "colonnade/trace/detail/argument_types.h"

#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>

#include <algorithm>

namespace colonnade::trace::detail {
namespace {

using c10::Type;
using c10::TypeKind;

bool is_int(const Argument& argument) {
  return argument.is<int64_t>() || argument.is<ExpressionRef>();
}

bool is_constant_number(const Argument& argument) {
  return argument.is<bool>() || argument.is<int64_t>() ||
         argument.is<double>() || argument.is<c10::complex<double>>();
}

/// One of the first `count` of an enum, of which torch has tables.
bool is_enumerator(const Argument& argument, int64_t count) {
  return argument.is<int64_t>() && 0 <= argument.as<int64_t>() &&
         argument.as<int64_t>() < count;
}

/// Whether an argument can be an item of a list of this type.
bool is_item(const Argument& item, const Type& type) {
  switch (type.kind()) {
    case TypeKind::TensorType:
      return item.is<Value>();
    case TypeKind::OptionalType:
      return item.is<std::monostate>() || item.is<Value>();
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return is_int(item);
    case TypeKind::FloatType:
      return item.is<double>();
    case TypeKind::BoolType:
      return item.is<bool>();
    case TypeKind::StringType:
      return item.is<std::string>();
    case TypeKind::NumberType:
      return is_constant_number(item);
    default:
      return false;
  }
}

/// Whether replay can make lists of this type.
bool is_list_type(const Type& element) {
  switch (element.kind()) {
    case TypeKind::OptionalType:
      return element.expectRef<c10::OptionalType>().getElementType()->kind() ==
             TypeKind::TensorType;
    case TypeKind::TensorType:
    case TypeKind::IntType:
    case TypeKind::SymIntType:
    case TypeKind::FloatType:
    case TypeKind::BoolType:
    case TypeKind::StringType:
    case TypeKind::NumberType:
      return true;
    default:
      return false;
  }
}

}  // namespace

const char* kind_of(const Argument& argument) {
  // In the order of Argument::Variant.
  constexpr const char* kNames[] = {
      "nothing",          "a value",  "an expression", "a float input",
      "a wrapped number", "a bool",   "an int",        "a float",
      "a complex number", "a string", "a device",      "a list"};
  return kNames[argument.what.index()];
}

bool is_number(const Argument& argument) {
  return is_constant_number(argument) || argument.is<ExpressionRef>() ||
         argument.is<FloatInput>();
}

bool accepts(const Type& type, const Argument& argument) {
  switch (type.kind()) {
    case TypeKind::OptionalType:
      return argument.is<std::monostate>() ||
             accepts(*type.expectRef<c10::OptionalType>().getElementType(),
                     argument);
    case TypeKind::TensorType:
      return argument.is<Value>() || argument.is<WrappedNumber>();
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return is_int(argument);
    case TypeKind::ScalarTypeType:
      return is_enumerator(argument,
                           static_cast<int64_t>(at::ScalarType::Undefined));
    case TypeKind::LayoutType:
      return is_enumerator(argument,
                           static_cast<int64_t>(at::Layout::NumOptions)) &&
             argument.as<int64_t>() != static_cast<int64_t>(at::kMkldnn);
    case TypeKind::MemoryFormatType:
      return is_enumerator(argument,
                           static_cast<int64_t>(at::MemoryFormat::NumOptions));
    case TypeKind::FloatType:
      return argument.is<double>() || argument.is<FloatInput>();
    case TypeKind::BoolType:
    case TypeKind::SymBoolType:
      return argument.is<bool>();
    case TypeKind::StringType:
      return argument.is<std::string>();
    case TypeKind::NumberType:
      return is_number(argument);
    case TypeKind::DeviceObjType:
      return argument.is<c10::Device>();
    case TypeKind::ListType: {
      const Type& element = *type.expectRef<c10::ListType>().getElementType();
      return is_list_type(element) && argument.is<ArgumentList>() &&
             std::ranges::all_of(
                 argument.as<ArgumentList>(),
                 [&](const Argument& item) { return is_item(item, element); });
    }
    default:  // a Generator is nothing, which stands for the rank's own
      return false;
  }
}

bool gives(const Type& type, const Result& result) {
  const auto* guard = std::get_if<Guard>(&result);
  const bool is_dropped = std::holds_alternative<std::monostate>(result);
  switch (type.kind()) {
    case TypeKind::OptionalType:
      return gives(*type.expectRef<c10::OptionalType>().getElementType(),
                   result);
    case TypeKind::TensorType:
      return is_dropped || std::holds_alternative<Value>(result);
    case TypeKind::ListType:
      return type.expectRef<c10::ListType>().getElementType()->kind() ==
                 TypeKind::TensorType &&
             (is_dropped || std::holds_alternative<std::vector<Value>>(result));
    case TypeKind::BoolType:
    case TypeKind::SymBoolType:
      return is_dropped || (guard != nullptr && guard->expected.is<bool>());
    case TypeKind::IntType:
    case TypeKind::SymIntType:
    case TypeKind::ScalarTypeType:
      return is_dropped || (guard != nullptr && is_int(guard->expected));
    case TypeKind::NumberType:
      return is_dropped || (guard != nullptr && (guard->expected.is<bool>() ||
                                                 is_int(guard->expected)));
    case TypeKind::FloatType:
      return is_dropped;
    default:
      return false;
  }
}

}  // namespace colonnade::trace::detail
