// colonnade/trace/detail/structure.cpp
#include "colonnade/trace/detail/structure.h"

#include "colonnade/core/error.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/ivalue_inl.h>
#include <ATen/core/jit_type.h>

#include <algorithm>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using c10::IValue;
using Kind = Structure::Kind;

bool is_leaf(const IValue& value) {
  return value.isTensor() || value.isInt() || value.isDouble() ||
         value.isBool() || value.isString();
}

/// The type that a list or dict of these items has.
c10::TypePtr common_type(const std::vector<IValue>& items) {
  const auto all = [&](auto&& is) {
    return !items.empty() && std::ranges::all_of(items, is);
  };
  const auto tensor = [](const IValue& item) { return item.isTensor(); };
  if (all(tensor)) {
    return c10::TensorType::get();
  }
  if (all([](const IValue& item) { return item.isInt(); })) {
    return c10::IntType::get();
  }
  if (all([](const IValue& item) { return item.isDouble(); })) {
    return c10::FloatType::get();
  }
  if (all([](const IValue& item) { return item.isBool(); })) {
    return c10::BoolType::get();
  }
  if (all([](const IValue& item) { return item.isString(); })) {
    return c10::StringType::get();
  }
  if (all([&](const IValue& item) { return item.isNone() || tensor(item); })) {
    return c10::OptionalType::ofTensor();
  }
  return c10::AnyType::get();
}

IValue unflatten_from(const Structure& structure,
                      const std::vector<IValue>& leaves, size_t& next) {
  if (structure.kind == Kind::kLeaf) {
    return leaves.at(next++);
  }
  if (structure.kind == Kind::kNone) {
    return {};
  }
  std::vector<IValue> items;
  for (const Structure& item : structure.items) {
    items.push_back(unflatten_from(item, leaves, next));
  }
  if (structure.kind == Kind::kTuple) {
    return c10::ivalue::Tuple::create(std::move(items));
  }
  const c10::TypePtr type = common_type(items);
  if (structure.kind == Kind::kList) {
    c10::impl::GenericList list(type);
    for (IValue& item : items) {
      list.push_back(std::move(item));
    }
    return list;
  }
  const bool by_name =
      structure.keys.empty() || structure.keys[0].is<std::string>();
  c10::impl::GenericDict dict(by_name ? c10::TypePtr(c10::StringType::get())
                                      : c10::TypePtr(c10::IntType::get()),
                              type);
  for (size_t i = 0; i < items.size(); ++i) {
    const Argument& key = structure.keys[i];
    dict.insert(
        by_name ? IValue(key.as<std::string>()) : IValue(key.as<int64_t>()),
        std::move(items[i]));
  }
  return dict;
}

void name_leaves(const Structure& structure, const std::string& name,
                 std::vector<std::string>& names) {
  if (structure.kind == Kind::kLeaf) {
    names.push_back(name);
  }
  for (size_t i = 0; i < structure.items.size(); ++i) {
    std::string place = concat(name, "[", i, "]");
    if (structure.kind == Kind::kDict) {
      const Argument& key = structure.keys[i];
      place = key.is<std::string>() ? concat(name, ".", key.as<std::string>())
                                    : concat(name, "[", key.as<int64_t>(), "]");
    }
    name_leaves(structure.items[i], place, names);
  }
}

}  // namespace

Structure flatten(const IValue& value, std::vector<IValue>& leaves,
                  std::string_view subject) {
  Structure structure;
  const auto add_items = [&](const auto& items) {
    for (const auto& item : items) {
      structure.items.push_back(flatten(item, leaves, subject));
    }
  };
  if (is_leaf(value)) {
    leaves.push_back(value);
  } else if (value.isNone()) {
    structure.kind = Kind::kNone;
  } else if (value.isTuple()) {
    structure.kind = Kind::kTuple;
    add_items(value.toTupleRef().elements());
  } else if (value.isList()) {
    structure.kind = Kind::kList;
    add_items(value.toListRef());
  } else if (value.isGenericDict()) {
    structure.kind = Kind::kDict;
    for (const auto& entry : value.toGenericDict()) {
      const IValue& key = entry.key();
      check_arg(key.isString() || key.isInt(), subject, ": a dict has a key ",
                key.tagKind(), "; keys are strings or ints");
      structure.keys.push_back(key.isString() ? Argument{key.toStringRef()}
                                              : Argument{key.toInt()});
      structure.items.push_back(flatten(entry.value(), leaves, subject));
    }
  } else {
    throw InvalidArgument(
        concat(subject, ": a ", value.tagKind(),
               "; give tensors, ints, floats, bools, strings, and tuples, "
               "lists and dicts of them"));
  }
  return structure;
}

IValue unflatten(const Structure& structure,
                 const std::vector<IValue>& leaves) {
  size_t next = 0;
  return unflatten_from(structure, leaves, next);
}

Structure flatten_inputs(const std::vector<IValue>& inputs,
                         std::vector<IValue>& leaves) {
  Structure structure;
  structure.kind = Kind::kTuple;
  for (size_t i = 0; i < inputs.size(); ++i) {
    structure.items.push_back(flatten(inputs[i], leaves, concat("input ", i)));
  }
  return structure;
}

std::vector<std::string> leaf_names(const Structure& inputs) {
  std::vector<std::string> names;
  for (size_t i = 0; i < inputs.items.size(); ++i) {
    name_leaves(inputs.items[i], concat("input ", i), names);
  }
  return names;
}

std::string describe(const Structure& structure) {
  switch (structure.kind) {
    case Kind::kLeaf:
      return "a leaf";
    case Kind::kNone:
      return "none";
    case Kind::kTuple:
      return concat("a tuple of ", structure.items.size());
    case Kind::kList:
      return concat("a list of ", structure.items.size());
    case Kind::kDict:
      return concat("a dict of ", structure.items.size());
  }
  return "";
}

}  // namespace colonnade::trace::detail
