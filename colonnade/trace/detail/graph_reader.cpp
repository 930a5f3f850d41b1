// colonnade/trace/detail/graph_reader.cpp
#include "colonnade/trace/detail/graph_reader.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/check_graph.h"
#include "colonnade/trace/detail/graph_format.h"
#include "colonnade/trace/detail/graph_json.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <ostream>
#include <set>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using nlohmann::json;

/// For errors: the beginning of a text.
struct Shown {
  const json& value;
};
std::ostream& operator<<(std::ostream& out, const Shown& shown) {
  constexpr size_t kShown = 60;
  const std::string text =
      shown.value.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/true);
  return out << text.substr(0, kShown) << (text.size() > kShown ? "…" : "");
}

/// Reads what JSON says, and no more than it says: a float is no int.
class Reader {
 public:
  explicit Reader(const std::string& subject) : subject_(subject) {}

  Graph graph(const json& object);

 private:
  template <typename... Parts>
  void require(bool ok, const Parts&... parts) const {
    check<CheckpointError>(ok, subject_, ": ", place_, parts...);
  }

  const json& member(const json& object, const char* key) const;
  const json& list(const json& value) const;
  int64_t integer(const json& value) const;
  int index(const json& value) const;
  bool boolean(const json& value) const;
  std::string string(const json& value) const;
  double number(const json& value) const;
  int reference(const json& value, char sign) const;
  at::ScalarType dtype(const json& value) const;
  c10::Device device(const json& value) const;
  template <size_t N>
  size_t one_of(const char* const (&names)[N], const json& value) const;
  template <typename F>
  void for_each(const char* what, const json& items, F&& read);
  template <typename F>
  void for_each_numbered(char sign, const char* what, const json& items,
                         F&& read);

  std::vector<int64_t> integers(const json& value) const;
  Argument argument(const json& value) const;
  Argument argument_object(const json& object) const;
  std::vector<Argument> arguments(const json& value) const;
  Result result(const json& value) const;
  Node node(const json& object) const;
  Expression expression(const json& object) const;
  Structure structure(const json& value) const;
  Input input(const json& object) const;
  Weight weight(const json& object) const;
  void check_schemas(const json& ops, const std::vector<Node>& nodes) const;

  const std::string& subject_;
  std::string place_;  // in the file, for errors: "call 3: "
};

const json& Reader::member(const json& object, const char* key) const {
  require(object.is_object(), "has ", Shown{object}, ", not an object");
  const auto found = object.find(key);
  require(found != object.end(), "has no \"", key, "\"");
  return *found;
}

const json& Reader::list(const json& value) const {
  require(value.is_array(), "has ", Shown{value}, ", not an array");
  require(value.size() <= kMaxItems, "has a list of ", value.size(),
          "; there are at most ", kMaxItems, " in one");
  return value;
}

int64_t Reader::integer(const json& value) const {
  require(value.is_number_integer() &&
              (!value.is_number_unsigned() ||
               value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)),
          "has ", Shown{value}, ", not an integer of 64 bits");
  return value.get<int64_t>();
}

/// A number of something, or its place in a list.
int Reader::index(const json& value) const {
  const int64_t number = integer(value);
  require(0 <= number && number <= std::numeric_limits<int>::max(),
          "has an index ", number, " that is out of range");
  return static_cast<int>(number);
}

bool Reader::boolean(const json& value) const {
  require(value.is_boolean(), "has ", Shown{value}, ", not a boolean");
  return value.get<bool>();
}

std::string Reader::string(const json& value) const {
  require(value.is_string(), "has ", Shown{value}, ", not a string");
  const auto& text = value.get_ref<const std::string&>();
  require(text.size() <= kMaxStringBytes, "has a string of ", text.size(),
          " bytes; there are at most ", kMaxStringBytes);
  return text;
}

double Reader::number(const json& value) const {
  if (value.is_number_float()) {
    return value.get<double>();
  }
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::string name = string(member(value, "float"));
  require(name == "nan" || name == "inf" || name == "-inf", "has a float ",
          Shown{name}, ", not nan, inf or -inf");
  return name == "nan"   ? std::numeric_limits<double>::quiet_NaN()
         : name == "inf" ? kInf
                         : -kInf;
}

int Reader::reference(const json& value, char sign) const {
  const std::string text = string(value);
  int index = -1;
  const char* const end = text.data() + text.size();
  const bool signed_right = text.size() > 1 && text[0] == sign;
  const auto [stop, error] =
      signed_right ? std::from_chars(text.data() + 1, end, index)
                   : std::from_chars_result{end, std::errc::invalid_argument};
  require(error == std::errc() && stop == end && index >= 0 &&
              text == detail::reference(sign, index),
          "has ", Shown{value}, " in place of a reference such as ", '"', sign,
          "3\"");
  return index;
}

at::ScalarType Reader::dtype(const json& value) const {
  const std::string name = string(value);
  for (int i = 0; i < static_cast<int>(at::ScalarType::Undefined); ++i) {
    const auto dtype = static_cast<at::ScalarType>(i);
    if (name == c10::toString(dtype)) {
      return dtype;
    }
  }
  require(false, "has a dtype ", Shown{value}, ", which this torch lacks");
  return {};
}

c10::Device Reader::device(const json& value) const {
  const std::string name = string(value);
  try {
    return c10::Device(name);
  } catch (const c10::Error&) {
    require(false, "has a device ", Shown{value}, ", which this torch lacks");
    throw;
  }
}

template <size_t N>
size_t Reader::one_of(const char* const (&names)[N], const json& value) const {
  const std::string name = string(value);
  const auto* const found = std::ranges::find(names, name);
  require(found != std::end(names), "has a kind ", Shown{value},
          ", which is not known");
  return static_cast<size_t>(found - names);
}

template <typename F>
void Reader::for_each(const char* what, const json& items, F&& read) {
  place_ = concat("the list of a ", what, ": ");
  for (size_t i = 0; i < list(items).size(); ++i) {
    place_ = concat(what, " ", i, ": ");
    read(items[i]);
  }
  place_.clear();
}

template <typename F>
void Reader::for_each_numbered(char sign, const char* what, const json& items,
                               F&& read) {
  require(items.is_object(), "has ", Shown{items}, " in place of the ", what,
          "s, which are an object");
  for (size_t i = 0; i < items.size(); ++i) {
    place_ = concat(what, "s: ");
    const json& item =
        member(items, detail::reference(sign, static_cast<int64_t>(i)).c_str());
    place_ = concat(what, " ", sign, i, ": ");
    read(item);
  }
  place_.clear();
}

std::vector<int64_t> Reader::integers(const json& value) const {
  std::vector<int64_t> result;
  for (const json& item : list(value)) {
    result.push_back(integer(item));
  }
  return result;
}

Argument Reader::argument(const json& value) const {
  switch (value.type()) {
    case json::value_t::null:
      return {};
    case json::value_t::boolean:
      return {value.get<bool>()};
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      return {integer(value)};
    case json::value_t::number_float:
      return {number(value)};
    case json::value_t::array:
      return {arguments(value)};
    case json::value_t::string: {
      const bool is_expression =
          value.get_ref<const std::string&>().starts_with(kExpressionSign);
      return is_expression
                 ? Argument{ExpressionRef{reference(value, kExpressionSign)}}
                 : Argument{Value{reference(value, kValueSign)}};
    }
    default:
      return argument_object(value);
  }
}

Argument Reader::argument_object(const json& object) const {
  require(object.is_object() && object.size() == 1, "has ", Shown{object},
          " in place of an argument");
  const std::string& kind = object.begin().key();
  const json& value = object.begin().value();
  if (kind == "string") {
    return {string(value)};
  }
  if (kind == "float") {
    return {number(object)};
  }
  if (kind == "complex") {
    require(list(value).size() == 2, "has a complex number of ", value.size(),
            " parts");
    return {c10::complex<double>(number(value[0]), number(value[1]))};
  }
  if (kind == "device") {
    return {device(value)};
  }
  if (kind == "input") {
    return {FloatInput{index(value)}};
  }
  require(kind == "number", "has an argument of the kind ", Shown{kind},
          ", which is not known");
  return {WrappedNumber{{argument(value)}}};
}

std::vector<Argument> Reader::arguments(const json& value) const {
  std::vector<Argument> result;
  for (const json& item : list(value)) {
    result.push_back(argument(item));
  }
  return result;
}

Result Reader::result(const json& value) const {
  if (value.is_null()) {
    return {};
  }
  if (value.is_array()) {
    std::vector<Value> values;
    for (const json& item : value) {
      values.push_back({item.is_null() ? -1 : reference(item, kValueSign)});
    }
    return values;
  }
  if (value.is_object()) {
    return Guard{argument(member(value, "guard"))};
  }
  return Value{reference(value, kValueSign)};
}

Node Reader::node(const json& object) const {
  Node node;
  node.op = string(member(object, "op"));
  node.arguments = arguments(member(object, "arguments"));
  for (const json& item : list(member(object, "results"))) {
    node.results.push_back(result(item));
  }
  return node;
}

Expression Reader::expression(const json& object) const {
  Expression expression;
  for (const json& item : list(member(object, "terms"))) {
    Expression::Term term;
    term.factor = integer(member(item, "factor"));
    for (const json& variable : list(member(item, "variables"))) {
      term.variables.push_back(index(variable));
    }
    expression.terms.push_back(std::move(term));
  }
  expression.divisor = integer(member(object, "divisor"));
  expression.over_degree = boolean(member(object, "over_degree"));
  expression.rounding = static_cast<Expression::Rounding>(
      one_of(kRoundings, member(object, "rounding")));
  return expression;
}

Structure Reader::structure(const json& value) const {
  using Kind = Structure::Kind;
  Structure structure;
  if (value.is_null()) {
    structure.kind = Kind::kNone;
    return structure;
  }
  if (value.is_string()) {
    require(value == kStructures[0], "has ", Shown{value},
            " in place of a structure");
    return structure;
  }
  require(value.is_object() && value.size() == 1,
          "has a structure that is no leaf, tuple, list or dict");
  structure.kind = static_cast<Kind>(one_of(kStructures, value.begin().key()));
  require(structure.kind > Kind::kNone, "has a leaf with items");
  for (const json& item : list(value.begin().value())) {
    if (structure.kind != Kind::kDict) {
      structure.items.push_back(this->structure(item));
      continue;
    }
    require(list(item).size() == 2, "has an entry of a dict of ", item.size(),
            " parts, not of a key and a structure");
    structure.keys.push_back(item[0].is_string() ? Argument{string(item[0])}
                                                 : Argument{integer(item[0])});
    structure.items.push_back(this->structure(item[1]));
  }
  return structure;
}

Input Reader::input(const json& object) const {
  Input input;
  input.name = string(member(object, "name"));
  input.kind =
      static_cast<Input::Kind>(one_of(kInputKinds, member(object, "kind")));
  if (input.kind == Input::Kind::kTensor) {
    input.value = reference(member(object, "value"), kValueSign);
    input.dtype = dtype(member(object, "dtype"));
    for (const json& dim : list(member(object, "dims"))) {
      const bool varies = dim.is_object();
      input.dims.push_back({integer(varies ? member(dim, "size") : dim),
                            varies ? index(member(dim, "variable")) : -1});
    }
    return input;
  }
  if (object.contains("variable")) {
    input.variable = index(member(object, "variable"));
  }
  input.constant = argument(member(object, "constant"));
  return input;
}

Weight Reader::weight(const json& object) const {
  Weight weight;
  const std::string kind = string(member(object, "kind"));
  while (kind != to_string(weight.kind)) {
    require(weight.kind != Weight::Kind::kState, "has a kind ", Shown{kind},
            ", which is not known");
    weight.kind = static_cast<Weight::Kind>(static_cast<int>(weight.kind) + 1);
  }
  weight.name = string(member(object, "name"));
  weight.value = reference(member(object, "value"), kValueSign);
  if (object.contains("aliases")) {
    for (const json& alias : list(member(object, "aliases"))) {
      weight.aliases.push_back(string(alias));
    }
  }
  if (weight.kind == Weight::Kind::kState) {
    weight.shape = integers(member(object, "shape"));
    weight.split_dim = integer(member(object, "split_dim"));
    weight.is_zero = boolean(member(object, "zero"));
  }
  return weight;
}

/// All differences at once: they tell which torch wrote the file.
void Reader::check_schemas(const json& ops,
                           const std::vector<Node>& nodes) const {
  constexpr size_t kShown = 100;
  std::set<std::string> checked;
  std::string differences;
  size_t count = 0;
  for (const Node& node : nodes) {
    if (!checked.insert(node.op).second) {
      continue;
    }
    const std::string saved = string(member(ops, node.op.c_str()));
    const std::string running = schema_of(node.op);
    if (saved != running && ++count <= kShown) {
      differences +=
          concat("\n  ", saved, " in the file, ",
                 running.empty() ? "which this process lacks"
                                 : concat(running, " in this process"));
    }
  }
  require(count == 0,
          "was written by another torch or other libraries of ops; load it "
          "with those, or trace the model again. ",
          count, count == 1 ? " op differs:" : " ops differ:", differences);
}

Graph Reader::graph(const json& object) {
  require(object.is_object() && object.value("format", json()) == kFormat,
          "is not a graph of this library");
  const int64_t version = integer(member(object, "version"));
  require(version == kVersion, "has version ", version,
          " of the format; this library reads version ", kVersion);
  Graph graph;
  graph.degree = integer(member(object, "degree"));
  if (!member(object, "fixed").is_null()) {
    graph.fixed = string(member(object, "fixed"));
  }
  graph.is_random = boolean(member(object, "random"));
  graph.device = device(member(object, "device")).type();
  for_each("variable", member(object, "variables"), [&](const json& item) {
    graph.variables.push_back(
        {string(member(item, "name")), integer(member(item, "example"))});
  });
  for_each_numbered(
      kExpressionSign, "expression", member(object, "expressions"),
      [&](const json& item) { graph.expressions.push_back(expression(item)); });
  graph.input_structure = structure(member(object, "input_structure"));
  for_each("input", member(object, "inputs"),
           [&](const json& item) { graph.inputs.push_back(input(item)); });
  for_each("weight", member(object, "weights"),
           [&](const json& item) { graph.weights.push_back(weight(item)); });
  for_each_numbered(kValueSign, "value", member(object, "values"),
                    [&](const json& item) {
                      graph.values.push_back({dtype(member(item, "dtype")),
                                              integers(member(item, "shape")),
                                              integer(member(item, "bytes"))});
                    });
  for_each("call", member(object, "nodes"),
           [&](const json& item) { graph.nodes.push_back(node(item)); });
  graph.output_structure = structure(member(object, "output_structure"));
  graph.outputs = arguments(member(object, "outputs"));
  check_schemas(member(object, "ops"), graph.nodes);
  return graph;
}

}  // namespace

Graph read_graph(const json& object, const std::string& subject) {
  return Reader(subject).graph(object);
}

}  // namespace colonnade::trace::detail
