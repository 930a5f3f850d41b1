// colonnade/checkpoint/state_dict.cpp
#include "colonnade/checkpoint/state_dict.h"

#include "colonnade/core/error.h"

#include <algorithm>

namespace colonnade {
namespace {

// In the order of StateValue::Variant.
constexpr const char* kKinds[] = {"nothing",  "a bool",   "an integer",
                                  "a number", "a string", "a tensor",
                                  "a list",   "a dict"};
static_assert(std::size(kKinds) == std::variant_size_v<StateValue::Variant>);

template <typename T, typename Value>
auto& get(Value& value, const char* wanted) {
  auto* found = std::get_if<T>(&value.variant());
  check_arg(found != nullptr, "StateValue: is ",
            kKinds[value.variant().index()], ", not ", wanted);
  return *found;
}

}  // namespace

std::string to_string(const StateKey& key) {
  const auto* text = std::get_if<std::string>(&key);
  return text != nullptr ? *text : std::to_string(std::get<int64_t>(key));
}

StateDict::StateDict() = default;
StateDict::StateDict(const StateDict&) = default;
StateDict::StateDict(StateDict&&) noexcept = default;
StateDict& StateDict::operator=(const StateDict&) = default;
StateDict& StateDict::operator=(StateDict&&) noexcept = default;
StateDict::~StateDict() = default;

size_t StateDict::size() const {
  return entries_.size();
}

std::vector<StateDict::Entry>::const_iterator StateDict::begin() const {
  return entries_.begin();
}
std::vector<StateDict::Entry>::const_iterator StateDict::end() const {
  return entries_.end();
}
std::vector<StateDict::Entry>::iterator StateDict::begin() {
  return entries_.begin();
}
std::vector<StateDict::Entry>::iterator StateDict::end() {
  return entries_.end();
}

StateValue& StateDict::operator[](const StateKey& key) {
  auto found = std::ranges::find(entries_, key, &Entry::first);
  if (found == entries_.end()) {
    found = entries_.emplace(entries_.end(), key, StateValue());
  }
  return found->second;
}

const StateValue& StateDict::at(const StateKey& key) const {
  const auto found = std::ranges::find(entries_, key, &Entry::first);
  if (found == entries_.end()) {
    std::string keys;
    for (const Entry& entry : entries_) {
      keys += (keys.empty() ? "" : ", ") + to_string(entry.first);
    }
    check_arg(false, "StateDict: there is no \"", to_string(key),
              "\"; the keys are: ", keys.empty() ? "none" : keys);
  }
  return found->second;
}

bool StateDict::contains(const StateKey& key) const {
  return std::ranges::find(entries_, key, &Entry::first) != entries_.end();
}

void StateDict::erase(const StateKey& key) {
  std::erase_if(entries_,
                [&](const Entry& entry) { return entry.first == key; });
}

StateValue::StateValue(at::Tensor tensor) {
  auto attributes =
      tensor.defined() ? get_tensor_parallel_attributes(tensor) : std::nullopt;
  value_ = StateTensor{std::move(tensor), std::move(attributes)};
}

bool StateValue::to_bool() const {
  return get<bool>(*this, "a bool");
}

int64_t StateValue::to_int() const {
  return get<int64_t>(*this, "an integer");
}

double StateValue::to_double() const {
  if (is<int64_t>()) {
    return static_cast<double>(to_int());
  }
  return get<double>(*this, "a number");
}

const std::string& StateValue::to_string() const {
  return get<std::string>(*this, "a string");
}

const at::Tensor& StateValue::to_tensor() const {
  return to_state_tensor().tensor;
}

const StateTensor& StateValue::to_state_tensor() const {
  return get<StateTensor>(*this, "a tensor");
}

const StateList& StateValue::to_list() const {
  return get<StateList>(*this, "a list");
}

const StateDict& StateValue::to_dict() const {
  return get<StateDict>(*this, "a dict");
}

StateDict& StateValue::to_dict() {
  return get<StateDict>(*this, "a dict");
}

StateValue& StateValue::operator[](const StateKey& key) {
  if (is_none()) {
    value_ = StateDict();
  }
  return to_dict()[key];
}

}  // namespace colonnade
