// colonnade/comm/detail/mpi_backend.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"

#include <string>

namespace colonnade::detail {

/// Loads libmpi where it has not been; it is not initialised yet.
std::string why_no_mpi();

/// The world of a process that mpirun started. Collective over all processes
/// of the world.
WorldPtr make_mpi_world(const ProcessPlace& place);

}  // namespace colonnade::detail
