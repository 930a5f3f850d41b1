// colonnade/comm/detail/channel_group.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/channel.h"
#include "colonnade/comm/group.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::detail {

/// Collectives of ranks that share memory, threads or processes, by copies
/// through the buffers of a channel. Who overrides one may have a better way
/// for some sizes.
class ChannelGroup : public Group {
 protected:
  /// channel  of all members
  ChannelGroup(std::string name, int rank, std::vector<int64_t> ranks,
               std::unique_ptr<Channel> channel);

  void do_all_reduce(at::Tensor& x, ReduceOp op) override;
  void do_all_gather(at::Tensor& out, const at::Tensor& x) override;
  void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                         ReduceOp op) override;
  void do_broadcast(at::Tensor& x, int root) override;
  void do_all_to_all(at::Tensor& out, const at::Tensor& x) override;
  void do_barrier() override;

  /// Passes `bytes` from member `source` of `channel`, at `from`, to the others
  /// at `to`. Null: this member gives, or takes, nothing.
  void pass_on(Channel& channel, const std::byte* from, std::byte* to,
               size_t bytes, size_t source);

  /// Where each rank's input is in the step that is being done.
  std::vector<const std::byte*>& ins() { return ins_; }

  Channel& channel() { return *channel_; }

 private:
  template <typename Write, typename Read>
  void exchange(Channel& channel, size_t bytes, int64_t chunks, Write write,
                Read read, const void* lies = nullptr);
  template <typename Read>
  void exchange_parts(const at::Tensor& x, Read read);
  size_t member() const { return static_cast<size_t>(rank()); }

  std::unique_ptr<Channel> channel_;
  std::vector<const std::byte*> ins_;
};

}  // namespace colonnade::detail
