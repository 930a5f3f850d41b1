// colonnade/comm/detail/shm_backend.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"

#include <string>

namespace colonnade::detail {

/// Why processes cannot share memory here; empty when they can.
std::string why_no_shm();

/// The world of a process of a host all of whose ranks are processes of it.
WorldPtr make_shm_world(const ProcessPlace& place);

}  // namespace colonnade::detail
