// colonnade/launch/detail/modes.h
#pragma once

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/ScalarType.h>

namespace colonnade::detail {

/// The modes of torch that matter to a model's ops on the CPU: grad, inference
/// and autocast.
///
/// at::ThreadLocalState has them all, but allocates, and costs 0.4 us and more
/// cache lines than a call of a RankPool has besides.
struct Modes {
  bool grad;
  bool inference;
  bool autocast;
  c10::ScalarType autocast_dtype;

  static Modes of_this_thread();
};

/// Gives the calling thread some modes, and puts its own back at the end.
class ModesScope {
 public:
  explicit ModesScope(const Modes& modes);
  ~ModesScope();
  ModesScope(const ModesScope&) = delete;
  ModesScope& operator=(const ModesScope&) = delete;

 private:
  Modes previous_;
  c10::InferenceMode inference_;
  c10::AutoGradMode grad_;
};

}  // namespace colonnade::detail
