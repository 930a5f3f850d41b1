// colonnade/comm/detail/shm_channel.cpp
#include "colonnade/comm/detail/shm_channel.h"

#include <utility>

namespace colonnade::detail {
namespace {

size_t slots_bytes(int members) {
  return 2 * static_cast<size_t>(members) * sizeof(Slot);
}

}  // namespace

size_t ShmChannel::bytes(int members, size_t chunk_bytes) {
  return slots_bytes(members) +
         static_cast<size_t>(members) * kBuffers * chunk_bytes;
}

ShmChannel::ShmChannel(ShmWatch& watch, std::string name, uint32_t number,
                       int member, std::byte* memory, size_t chunk_bytes)
    : watch_(watch),
      meeting_(std::move(name), watch.record(number), number,
               reinterpret_cast<Slot*>(memory)),
      seat_(watch, meeting_, member),
      member_(member),
      buffers_(memory + slots_bytes(meeting_.size())),
      chunk_bytes_(chunk_bytes),
      of_(static_cast<size_t>(meeting_.size())) {}

const std::vector<std::byte*>& ShmChannel::buffers(int64_t k) {
  for (int i = 0; i < size(); ++i) {
    of_[static_cast<size_t>(i)] = buffer(i, k);
  }
  return of_;
}

const std::vector<std::byte*>& ShmChannel::payloads() {
  for (int i = 0; i < size(); ++i) {
    of_[static_cast<size_t>(i)] = const_cast<std::byte*>(seat_.slot(i).payload);
  }
  return of_;
}

}  // namespace colonnade::detail
