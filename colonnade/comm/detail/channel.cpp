// colonnade/comm/detail/channel.cpp
#include "colonnade/comm/detail/channel.h"

#include <utility>

namespace colonnade::detail {

Channel::Channel(Watch& watch, std::shared_ptr<Meeting> meeting, int member,
                 std::byte* buffers)
    : watch_(watch),
      meeting_(std::move(meeting)),
      seat_(watch, *meeting_, member),
      member_(member),
      buffers_(buffers),
      of_(static_cast<size_t>(meeting_->size())) {}

const std::vector<std::byte*>& Channel::buffers(int64_t k) {
  for (int i = 0; i < size(); ++i) {
    of_[static_cast<size_t>(i)] = buffer(i, k);
  }
  return of_;
}

const std::vector<std::byte*>& Channel::payloads() {
  for (int i = 0; i < size(); ++i) {
    of_[static_cast<size_t>(i)] = const_cast<std::byte*>(seat_.slot(i).payload);
  }
  return of_;
}

}  // namespace colonnade::detail
