// Worlds of processes that torch.distributed has brought together.
#pragma once

#include "colonnade/comm/world.h"

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <string>

namespace colonnade::python {

/// What torch.distributed says of a process of a group.
struct TorchPlace {
  c10::intrusive_ptr<c10d::Store> store;  ///< The group's own.
  int rank = 0;
  int size = 1;
  std::chrono::milliseconds timeout{};
  /// A name of the backend table; empty: the one that fits.
  std::string backend = {};
  /// As ProcessPlace::network.
  std::string network = {};
};

/// Collective over the group.
WorldPtr make_torch_world(const TorchPlace& place);

}  // namespace colonnade::python
