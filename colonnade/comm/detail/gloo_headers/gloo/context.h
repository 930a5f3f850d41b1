// colonnade/comm/detail/gloo_headers/gloo/context.h
#pragma once

#include <gloo/transport/device.h>

#include <chrono>
#include <memory>

// A wheel of torch has Gloo in its library and c10d's header of it, but none of
// Gloo's own. These folders declare as much as that header names. Nothing here
// is constructed by us, or has another layout than a pointer.
namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
