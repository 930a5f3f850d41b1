// colonnade/comm/detail/shm_backend.cpp
#include "colonnade/comm/detail/shm_backend.h"

#include "colonnade/comm/detail/host_process.h"
#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/self_backend.h"
#include "colonnade/comm/detail/shm_board.h"
#include "colonnade/comm/detail/shm_group.h"
#include "colonnade/comm/detail/shm_memory.h"
#include "colonnade/comm/detail/shm_watch.h"
#include "colonnade/core/error.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr char kGood[] = "good";
/// In front of why not: another kind of memory is to be tried.
constexpr char kNext[] = "next: ";

class ShmWorld final : public World {
 public:
  explicit ShmWorld(std::shared_ptr<ShmWatch> watch)
      : watch_(std::move(watch)) {}
  ~ShmWorld() override { watch_->leave(); }

  int rank() const override { return watch_->rank; }
  int size() const override { return watch_->size; }
  std::string_view backend() const override { return "shm"; }

  GroupPtr make_group(std::string name, std::vector<int64_t> ranks) override {
    check_ranks(name, ranks);
    if (ranks.size() == 1) {
      return make_self_group(std::move(name), rank(), watch_->timeout);
    }
    return make_shm_group(watch_, std::move(name), std::move(ranks));
  }

  void abort(std::string_view message) noexcept override {
    try {
      watch_->fail(concat("rank ", rank(), " failed: ", message));
    } catch (...) {  // no memory for the text
      watch_->fail("a rank failed");
    }
  }

  void look() override { watch_->check_alive(); }

  void leave() noexcept override { watch_->leave(); }

 private:
  std::shared_ptr<ShmWatch> watch_;
};

/// How the processes of a world come to share a board: rank 0 makes it and
/// tells its address; the others open it, enter themselves and say so; rank 0
/// says whether all have.
class Opening {
 public:
  explicit Opening(const ProcessPlace& place)
      : place_(place),
        timeout_(place.timeout.count() >= 0 ? place.timeout : kLongestTimeout),
        deadline_(Clock::now() + timeout_) {}

  std::shared_ptr<ShmWatch> watch() {
    std::string why_not;
    for (const auto kind :
         {ShmMemory::Kind::kUnnamed, ShmMemory::Kind::kNamed}) {
      prefix_ = kind == ShmMemory::Kind::kUnnamed ? "shm/" : "shm/named/";
      memory_ = {};
      const std::string verdict = place_.rank == 0 ? lead(kind) : follow();
      memory_.close_to_others();
      if (verdict == kGood) {
        return std::make_shared<ShmWatch>(std::move(memory_), place_, kind);
      }
      check<CommError>(verdict.starts_with(kNext), verdict);
      why_not = verdict.substr(std::size(kNext) - 1);
    }
    throw CommError(concat("shm: the ranks cannot share memory: ", why_not,
                           "; run them on one host as one user, or name the "
                           "backend gloo"));
  }

 private:
  std::string lead(ShmMemory::Kind kind) {
    std::string verdict = kGood;
    try {
      memory_ = ShmMemory(ShmBoard::bytes(place_.size), kind);
      enter();
    } catch (const CommError& error) {
      verdict = concat(kNext, "rank 0: ", error.what());
    }
    set("memory", concat(place_.host, '\n', memory_.address()));
    try {
      std::vector<int64_t> missing;
      for (int rank = 1; rank < place_.size; ++rank) {
        const auto answer = get(concat("opened/", rank));
        if (!answer) {
          missing.push_back(rank);
        } else if (*answer != kGood && verdict == kGood) {
          verdict = concat(kNext, "rank ", rank, ": ", *answer);
        }
      }
      check<CommError>(missing.empty(), "shm: rank 0 waited ", timeout_.count(),
                       " ms for ", rank_list(missing), ", which did not come");
    } catch (const CommError& error) {
      verdict = error.what();
    }
    set("verdict", verdict);
    return verdict;
  }

  std::string follow() {
    const auto announced = get("memory");
    check<CommError>(announced.has_value(), "shm: rank ", place_.rank,
                     " waited ", timeout_.count(),
                     " ms for rank 0, which did not come");
    const size_t line = announced->find('\n');
    const std::string host = announced->substr(0, line);
    std::string answer = kGood;
    try {
      check<CommError>(host == place_.host, "it is on host ", place_.host,
                       ", and rank 0 on ", host);
      memory_ = ShmMemory(announced->substr(line + 1));
      enter();
    } catch (const CommError& error) {
      answer = error.what();
    }
    set(concat("opened/", place_.rank), answer);
    // Rank 0 may first wait as long for another.
    deadline_ = Clock::now() + timeout_ + std::chrono::seconds(10);
    const auto verdict = get("verdict");
    check<CommError>(verdict.has_value(), "shm: rank ", place_.rank, " waited ",
                     timeout_.count(),
                     " ms for rank 0, which came but did not go on");
    return *verdict;
  }

  void enter() {
    ShmRank& me = ShmBoard(memory_.data(), place_.size).rank(place_.rank);
    me.start.store(HostProcess::start_of(getpid()));
    me.pid.store(getpid());
  }

  void set(const std::string& name, const std::string& value) {
    place_.rendezvous->set(prefix_ + name, value);
  }

  /// Nothing where nobody sets it in time.
  std::optional<std::string> get(const std::string& name) {
    constexpr milliseconds kSlice{500};
    while (true) {
      const auto left =
          std::chrono::duration_cast<milliseconds>(deadline_ - Clock::now());
      try {
        return place_.rendezvous->get(
            prefix_ + name, std::clamp(left, milliseconds(1), kSlice));
      } catch (const CommError&) {
        throw_if_dead();
        if (left <= kSlice) {
          return std::nullopt;
        }
      }
    }
  }

  void throw_if_dead() const {
    for (int rank = 0; memory_.data() != nullptr && rank < place_.size;
         ++rank) {
      const ShmRank& other = ShmBoard(memory_.data(), place_.size).rank(rank);
      const int32_t pid = other.pid.load();
      check<CommError>(
          pid == 0 || HostProcess::start_of(pid) == other.start.load(), "rank ",
          rank, " (process ", pid, ") died before its first call");
    }
  }

  const ProcessPlace& place_;
  milliseconds timeout_;
  Clock::time_point deadline_;
  std::string prefix_;
  ShmMemory memory_;
};

}  // namespace

std::string why_no_shm() {
  try {
    const ShmMemory memory(1, ShmMemory::Kind::kUnnamed);
  } catch (const CommError&) {
    try {
      const ShmMemory memory(1, ShmMemory::Kind::kNamed);
    } catch (const CommError& error) {
      return error.what();
    }
  }
  return {};
}

WorldPtr make_shm_world(const ProcessPlace& place) {
  check_arg(place.size >= 1 && place.size <= kMaxShmRanks, "shm: 1 to ",
            kMaxShmRanks, " ranks, not ", place.size);
  check_arg(place.rank >= 0 && place.rank < place.size, "shm: rank ",
            place.rank, " is not one of ", place.size);
  check_arg(place.rendezvous != nullptr,
            "shm: no rendezvous; give one that all ranks see");
  return std::make_shared<ShmWorld>(Opening(place).watch());
}

}  // namespace colonnade::detail
