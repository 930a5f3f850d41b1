// colonnade/comm/rendezvous.cpp
#include "colonnade/comm/rendezvous.h"

namespace colonnade {

Rendezvous::~Rendezvous() = default;

}  // namespace colonnade
