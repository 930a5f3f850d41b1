// colonnade/random/generators.cpp
#include "colonnade/random/generators.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/random/detail/rank_random_key.h"

#include <ATen/Context.h>
#include <c10/core/GeneratorImpl.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

namespace colonnade {
namespace {

/// What parallel_state, a room above, calls the tensor-parallel group.
constexpr std::string_view kTensorParallelGroup = "tp";

/// The place of a rank that has no tensor-parallel group yet.
constexpr int64_t kNoGroup = -1;

/// A rank's generators on one device.
struct DeviceGenerators {
  at::Generator replicated;
  at::Generator tensor_parallel;
  /// The place in the tensor-parallel group that `tensor_parallel` was seeded
  /// for; empty where its state was set by hand, which stays.
  std::optional<int64_t> seeded_for;

  c10::Device device() const { return replicated.device(); }
};

/// The slot of this room in a RankContext.
struct RankRandom {
  uint64_t seed = c10::default_rng_seed_val;
  bool in_tensor_parallel_scope = false;
  std::vector<DeviceGenerators> devices;  // few: found by comparing
};

RankRandom& rank_random() {
  return RankContext::current()->slot<RankRandom>();
}

/// This rank's place in its tensor-parallel group.
int64_t place() {
  const GroupPtr group =
      RankContext::current()->find_group(kTensorParallelGroup);
  return group ? group->rank() : kNoGroup;
}

/// What `tensor_parallel` is seeded with: before there is a group, as if this
/// rank were its first.
uint64_t seed_at(int64_t place, uint64_t seed) {
  return tensor_parallel_seed(seed, std::max<int64_t>(place, 0));
}

void seed_generator(at::Generator& generator, uint64_t seed) {
  std::lock_guard lock(generator.mutex());
  generator.set_current_seed(seed);
}

at::Tensor state_of(at::Generator generator) {
  std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator& generator, const at::Tensor& state) {
  std::lock_guard lock(generator.mutex());
  generator.set_state(state.contiguous());
}

at::Generator make_generator(at::Generator torchs, uint64_t seed) {
  at::Generator generator;
  {
    std::lock_guard lock(torchs.mutex());
    generator = torchs.clone();
  }
  seed_generator(generator, seed);
  return generator;
}

/// Seeds `tensor_parallel` anew where the rank's place has changed since.
void follow_place(DeviceGenerators& on_device, uint64_t seed) {
  const int64_t now = place();
  if (on_device.seeded_for && *on_device.seeded_for != now) {
    seed_generator(on_device.tensor_parallel, seed_at(now, seed));
    on_device.seeded_for = now;
  }
}

DeviceGenerators& generators(RankRandom& random, c10::Device device) {
  for (DeviceGenerators& on_device : random.devices) {
    if (on_device.device() == device) {
      return on_device;
    }
  }
  // A device without an index is torch's current one, so that it may be here.
  const at::Generator torchs = at::globalContext().defaultGenerator(device);
  if (torchs.device() != device) {
    return generators(random, torchs.device());
  }
  const int64_t now = place();
  return random.devices.emplace_back(
      DeviceGenerators{make_generator(torchs, random.seed),
                       make_generator(torchs, seed_at(now, random.seed)), now});
}

/// The generators of the calling rank, `tensor_parallel` seeded for the place
/// that the rank has now.
DeviceGenerators& generators(c10::Device device) {
  RankRandom& random = rank_random();
  DeviceGenerators& on_device = generators(random, device);
  follow_place(on_device, random.seed);
  return on_device;
}

void check_state(const at::Tensor& state, const at::Generator& generator,
                 std::string_view name) {
  check_arg(state.defined(), "set_random_state: ", name, " is undefined; ",
            "pass what random_state() gave");
  const int64_t bytes = state_of(generator).numel();
  check_arg(state.is_cpu() && state.scalar_type() == at::kByte &&
                state.numel() == bytes,
            "set_random_state: ", name, " is a tensor of ", state.numel(), " ",
            state.scalar_type(), " on ", state.device(), ", not of ", bytes,
            " ", at::kByte, " on cpu; pass what random_state() gave");
}

}  // namespace

void manual_seed(uint64_t seed) {
  if (!detail::in_rank_random_scope()) {
    at::manual_seed(seed);
    return;
  }
  RankRandom& random = rank_random();
  random.seed = seed;
  const int64_t now = place();
  for (DeviceGenerators& on_device : random.devices) {
    seed_generator(on_device.replicated, seed);
    seed_generator(on_device.tensor_parallel, seed_at(now, seed));
    on_device.seeded_for = now;
  }
}

uint64_t tensor_parallel_seed(uint64_t seed, int64_t tp_rank) {
  seed += 0x9e3779b97f4a7c15;
  seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
  seed = (seed ^ (seed >> 27)) * 0x94d049bb133111eb;
  return (seed ^ (seed >> 31)) + static_cast<uint64_t>(tp_rank);
}

RandomState random_state() {
  if (!detail::in_rank_random_scope()) {
    const at::Generator torchs =
        at::globalContext().defaultGenerator(c10::kCPU);
    return {state_of(torchs), state_of(torchs)};
  }
  const DeviceGenerators& cpu = generators(c10::kCPU);
  return {state_of(cpu.replicated), state_of(cpu.tensor_parallel)};
}

void set_random_state(const RandomState& state) {
  if (!detail::in_rank_random_scope()) {
    at::Generator torchs = at::globalContext().defaultGenerator(c10::kCPU);
    check_state(state.replicated, torchs, "replicated");
    set_state(torchs, state.replicated);
    return;
  }
  DeviceGenerators& cpu = generators(c10::kCPU);
  check_state(state.replicated, cpu.replicated, "replicated");
  check_state(state.tensor_parallel, cpu.tensor_parallel, "tensor_parallel");
  set_state(cpu.replicated, state.replicated);
  set_state(cpu.tensor_parallel, state.tensor_parallel);
  cpu.seeded_for.reset();
}

at::Generator current_generator(c10::Device device) {
  if (!detail::in_rank_random_scope()) {
    return at::globalContext().defaultGenerator(device);
  }
  RankRandom& random = rank_random();
  DeviceGenerators& on_device = generators(random, device);
  if (!random.in_tensor_parallel_scope) {
    return on_device.replicated;
  }
  follow_place(on_device, random.seed);
  return on_device.tensor_parallel;
}

TensorParallelRandomScope::TensorParallelRandomScope(bool inside)
    : previous_(in_tensor_parallel_random()) {
  rank_random().in_tensor_parallel_scope = inside;
}

TensorParallelRandomScope::~TensorParallelRandomScope() {
  rank_random().in_tensor_parallel_scope = previous_;
}

bool in_tensor_parallel_random() {
  return rank_random().in_tensor_parallel_scope;
}

}  // namespace colonnade
