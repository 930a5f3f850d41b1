// colonnade/launch/detail/modes.cpp
#include "colonnade/launch/detail/modes.h"

#include <ATen/autocast_mode.h>

namespace colonnade::detail {
namespace {

void set_autocast(const Modes& modes) {
  at::autocast::set_autocast_enabled(at::kCPU, modes.autocast);
  at::autocast::set_autocast_dtype(at::kCPU, modes.autocast_dtype);
}

}  // namespace

Modes Modes::of_this_thread() {
  return {.grad = c10::GradMode::is_enabled(),
          .inference = c10::InferenceMode::is_enabled(),
          .autocast = at::autocast::is_autocast_enabled(at::kCPU),
          .autocast_dtype = at::autocast::get_autocast_dtype(at::kCPU)};
}

ModesScope::ModesScope(const Modes& modes)
    : previous_(Modes::of_this_thread()),
      inference_(modes.inference),
      grad_(modes.grad) {
  set_autocast(modes);
}

ModesScope::~ModesScope() {
  set_autocast(previous_);
}

}  // namespace colonnade::detail
