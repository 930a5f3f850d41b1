// colonnade/parallel_layers/detail/no_init.h
#pragma once

namespace colonnade::parallel_layers::detail {

/// While it lives, init_parameter does nothing on this thread: for layers that
/// are filled from elsewhere.
class NoInitScope {
 public:
  NoInitScope();
  ~NoInitScope();
  NoInitScope(const NoInitScope&) = delete;
  NoInitScope& operator=(const NoInitScope&) = delete;

 private:
  bool previous_;
};

}  // namespace colonnade::parallel_layers::detail
