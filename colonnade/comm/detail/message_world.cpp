// colonnade/comm/detail/message_world.cpp
#include "colonnade/comm/detail/message_world.h"

#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/waits.h"
#include "colonnade/core/error.h"

#include <utility>

namespace colonnade::detail {
namespace {

/// How long a process that closes its connections may take to say why: one that
/// ran out of time can do so only afterwards.
constexpr std::chrono::milliseconds kPatience = std::chrono::seconds(1);

/// FNV-1a.
class TagHash {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) {
      hash_ = (hash_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
  }
  uint32_t below(uint32_t limit) const {
    return static_cast<uint32_t>((hash_ >> 32) % limit);
  }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace

MessageWorld::MessageWorld(const ProcessPlace& place,
                           std::shared_ptr<ProcessFates> fates,
                           std::unique_ptr<Mesh> mesh)
    : rank(place.rank),
      size(place.size),
      timeout(place.timeout),
      fates_(std::move(fates)),
      mesh_(std::move(mesh)) {}

void MessageWorld::check_alive() const {
  check<CommError>(!failed_, reason_);
  check<CommError>(mesh_->is_open(), mesh_->backend(), ": rank ", rank,
                   " has left its world, and can call no collective any more");
}

void MessageWorld::fail(std::string_view reason) noexcept {
  if (failed_) {
    return;
  }
  failed_ = true;
  try {
    reason_ = reason;
  } catch (...) {  // no memory for the reason: the failure stands without it
  }
  fates_->failed(reason);
  mesh_->abandon();
}

void MessageWorld::fail_and_throw(std::string_view reason) {
  fail(reason);
  throw CommError(reason_);
}

void MessageWorld::fail_since_gone(int64_t gone, const Call& call,
                                   uint64_t number, const std::string& group) {
  const auto fate = fates_->of(static_cast<int>(gone), kPatience);
  if (!fate) {
    fail_and_throw(concat(
        "rank ", gone, " is gone: it closed its connection without a word, ",
        "while rank ", rank, " waited for it in ", to_string(call), ", call ",
        number, " of ", group, "; its process crashed or was killed"));
  }
  if (fate->returned) {
    fail_and_throw(has_returned({gone}, rank, call, number - 1, group));
  }
  fail_and_throw(fate->reason);
}

void MessageWorld::leave() noexcept {
  fates_->returned();
  mesh_->close();
}

uint32_t MessageWorld::new_tag(const std::string& name,
                               const std::vector<int64_t>& ranks) {
  const uint32_t turn = turns_[{name, ranks}]++;
  TagHash hash;
  hash.add(concat(name, '\n', rank_list(ranks), '\n', turn));
  const auto [place, is_new] = tags_.emplace(hash.below(mesh_->tags()), ranks);
  // As good as never: such groups could take each other's messages.
  check_arg(is_new, "make_group: the name \"", name,
            "\" has by chance the same number as that of another group of ",
            rank_list(place->second), "; choose another name");
  return place->first;
}

}  // namespace colonnade::detail
