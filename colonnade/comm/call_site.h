#pragma once

#include "colonnade/core/api.h"

#include <cstddef>
#include <string_view>

namespace colonnade {

/// What of a model calls collectives, for error reports: such as "layer
/// mlp.down". Plain bytes, so that it goes to other processes as it is.
class COLONNADE_API CallSite {
 public:
  CallSite() = default;  ///< Empty: nobody said.
  /// Of a longer text the end is kept, which tells layers apart.
  explicit CallSite(std::string_view text) noexcept;

  bool empty() const { return text_[0] == '\0'; }
  std::string_view text() const { return text_; }

  /// The same in a backward pass, and whether it is.
  CallSite in_backward() const;
  bool is_backward() const { return backward_; }

  /// That of the calling thread's innermost scope.
  static const CallSite& current();

 private:
  char text_[63] = {};
  bool backward_ = false;
};

/// The calling thread's collectives come from `site`, until the end of scope.
class COLONNADE_API CallSiteScope {
 public:
  explicit CallSiteScope(const CallSite& site) noexcept;
  ~CallSiteScope();
  CallSiteScope(const CallSiteScope&) = delete;
  CallSiteScope& operator=(const CallSiteScope&) = delete;

 private:
  CallSite site_;
  const CallSite* previous_;
};

}  // namespace colonnade
