// colonnade/comm/asleep.h
#pragma once

#include "colonnade/core/api.h"

namespace colonnade {

/// Calls that this thread makes wait asleep, so that they leave the cores to
/// others: for a thread that communicates while others of its process compute.
/// Being woken takes some 50 us, which a thread that stays awake saves.
class COLONNADE_API AsleepScope {
 public:
  AsleepScope();
  ~AsleepScope();
  AsleepScope(const AsleepScope&) = delete;
  AsleepScope& operator=(const AsleepScope&) = delete;

 private:
  bool previous_;
};

}  // namespace colonnade
