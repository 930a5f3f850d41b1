// colonnade/comm/detail/shm_group.cpp
#include "colonnade/comm/detail/shm_group.h"

#include "colonnade/comm/detail/channel.h"
#include "colonnade/comm/detail/channel_group.h"
#include "colonnade/comm/detail/slices.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

namespace colonnade::detail {
namespace {

/// What is in a group's memory, one after the other.
struct Layout {
  size_t size;

  using PairNumber = std::atomic<uint32_t>;

  /// By sender, then receiver: the number of their record, + 1.
  static constexpr size_t kPairNumbers = 0;
  size_t all() const { return lines(size * size * sizeof(PairNumber)); }
  size_t pair(size_t src, size_t dst) const {
    return all() + channel(size) + (src * size + dst) * channel(2);
  }
  size_t end() const { return pair(size, 0); }

  /// The slots of `members`, then their buffers.
  static size_t channel(size_t members) {
    return slots(members) + Channel::buffer_bytes(members);
  }
  static size_t slots(size_t members) { return 2 * members * sizeof(Slot); }
  static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }
};

/// The channel of record `number`, with `Layout::channel` bytes at `memory`.
std::unique_ptr<Channel> make_channel(ShmWatch& watch, const std::string& text,
                                      uint32_t number, int member,
                                      std::byte* memory) {
  auto meeting = std::make_shared<ShmMeeting>(
      text, watch.record(number), number, reinterpret_cast<Slot*>(memory));
  const auto members = static_cast<size_t>(meeting->size());
  return std::make_unique<Channel>(watch, std::move(meeting), member,
                                   memory + Layout::slots(members));
}

class ShmGroup final : public ChannelGroup {
 public:
  ShmGroup(std::shared_ptr<ShmWatch> watch, ShmWatch::Opened opened,
           std::string text, std::string name, int rank,
           std::vector<int64_t> ranks, Layout layout)
      : ChannelGroup(std::move(name), rank, std::move(ranks),
                     make_channel(*watch, text, opened.number, rank,
                                  opened.memory.data() + layout.all())),
        watch_(std::move(watch)),
        memory_(std::move(opened.memory)),
        layout_(layout),
        text_(std::move(text)),
        senders_(layout.size),
        receivers_(layout.size) {
    set_timeout(watch_->timeout);
  }

 private:
  /// The channel at `channels[peer]`, made at first use.
  Channel& pair(std::vector<std::unique_ptr<Channel>>& channels, int peer,
                int src, int dst) {
    std::unique_ptr<Channel>& channel = channels[static_cast<size_t>(peer)];
    if (channel == nullptr) {
      auto* const numbers = reinterpret_cast<Layout::PairNumber*>(
          memory_.data() + Layout::kPairNumbers);
      Layout::PairNumber& number = numbers[src * size() + dst];
      uint32_t known = number.load();
      if (known == 0) {
        const uint32_t made =
            1 + watch_->new_pair(text_, ranks()[static_cast<size_t>(src)],
                                 ranks()[static_cast<size_t>(dst)]);
        if (number.compare_exchange_strong(known, made)) {  // or the peer did
          known = made;
        }
      }
      channel =
          make_channel(*watch_, text_, known - 1, rank() == src ? 0 : 1,
                       memory_.data() + layout_.pair(static_cast<size_t>(src),
                                                     static_cast<size_t>(dst)));
    }
    return *channel;
  }

  void do_send(const at::Tensor& x, int dst) override {
    pass_on(pair(senders_, dst, rank(), dst), bytes_of(x), nullptr, x.nbytes(),
            0);
  }

  void do_recv(at::Tensor& x, int src) override {
    pass_on(pair(receivers_, src, src, rank()), nullptr, bytes_of(x),
            x.nbytes(), 0);
  }

  std::shared_ptr<ShmWatch> watch_;
  ShmMemory memory_;
  Layout layout_;
  std::string text_;                                 // 'group "tp"'
  std::vector<std::unique_ptr<Channel>> senders_;    // by receiver
  std::vector<std::unique_ptr<Channel>> receivers_;  // by sender
};

}  // namespace

GroupPtr make_shm_group(std::shared_ptr<ShmWatch> watch, std::string name,
                        std::vector<int64_t> ranks) {
  const std::string text = concat("group \"", name, "\"");
  const auto place = std::find(ranks.begin(), ranks.end(), watch->rank);
  const int rank = static_cast<int>(place - ranks.begin());
  const Layout layout{ranks.size()};
  ShmWatch::Opened opened = watch->open_group(text, ranks, layout.end());
  return c10::make_intrusive<ShmGroup>(std::move(watch), std::move(opened),
                                       text, std::move(name), rank,
                                       std::move(ranks), layout);
}

}  // namespace colonnade::detail
