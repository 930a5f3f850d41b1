// colonnade/colonnade.h
// The whole public API. Each header below also works alone and compiles faster.
#pragma once

#include "colonnade/core/version.h"
