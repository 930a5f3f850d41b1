// colonnade/comm/detail/gloo_mesh.cpp
#include "colonnade/comm/detail/gloo_mesh.h"

#include "colonnade/comm/detail/silence.h"
#include "colonnade/comm/group.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

// The wheel's library has Gloo, but c10d's headers hide it without this.
#define USE_C10D_GLOO 1
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

/// How long a rank that is through waits for all that still connect.
constexpr std::chrono::milliseconds kConnecting = std::chrono::seconds(10);

std::string name_of_connected(int rank) {
  return concat("gloo/connected/", rank);
}

constexpr int kSilenceErrors[] = {ETIMEDOUT, EHOSTUNREACH, ENETUNREACH,
                                  EHOSTDOWN, ENETDOWN};

/// Keeps the signal that a write to a closed connection raises from ending the
/// process, for this thread and those that it starts meanwhile: Gloo writes
/// without MSG_NOSIGNAL. A library does not change what a signal does.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoPipeSignal() {
    if (!was_pending_) {
      const timespec no_time{};
      sigtimedwait(&pipe_, nullptr, &no_time);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_;
};

/// A rendezvous as c10d's store, as far as Gloo connects by it.
class RendezvousStore final : public c10d::Store {
 public:
  RendezvousStore(std::shared_ptr<Rendezvous> rendezvous, std::string prefix,
                  std::chrono::milliseconds timeout)
      : Store(timeout),
        rendezvous_(std::move(rendezvous)),
        prefix_(std::move(prefix)) {}

  c10::intrusive_ptr<Store> clone() override {
    return c10::make_intrusive<RendezvousStore>(rendezvous_, prefix_, timeout_);
  }
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    rendezvous_->set(prefix_ + key, std::string(value.begin(), value.end()));
  }
  std::vector<uint8_t> get(const std::string& key) override {
    const std::string value = rendezvous_->get(prefix_ + key, timeout_);
    return std::vector<uint8_t>(value.begin(), value.end());
  }
  void wait(const std::vector<std::string>& keys) override {
    wait(keys, timeout_);
  }
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    for (const std::string& key : keys) {
      rendezvous_->get(prefix_ + key, timeout);
    }
  }

  int64_t add(const std::string&, int64_t) override { refuse("add"); }
  bool deleteKey(const std::string&) override { return false; }
  bool check(const std::vector<std::string>&) override { refuse("check"); }
  int64_t getNumKeys() override { refuse("getNumKeys"); }

 private:
  [[noreturn]] static void refuse(const char* method) {
    throw CommError(concat("gloo: asks the rendezvous for ", method,
                           ", which this torch should not need; use the "
                           "torch that the library was built with"));
  }

  std::shared_ptr<Rendezvous> rendezvous_;
  std::string prefix_;
};

at::Tensor bytes_at(void* data, size_t bytes) {
  return at::from_blob(data, {static_cast<int64_t>(bytes)}, at::kByte);
}

/// At least none.
std::chrono::milliseconds left_until(Mesh::Clock::time_point end) {
  return std::max(
      std::chrono::ceil<std::chrono::milliseconds>(end - Mesh::Clock::now()),
      std::chrono::milliseconds(0));
}

/// Throws, with what Gloo says, where the peer's connection is closed or
/// `limit` is over. Returns early where the work is aborted.
void wait_for(c10d::Work& work, std::chrono::milliseconds limit) {
  // To c10d, 0 is the timeout of the group.
  work.wait(std::clamp(limit, std::chrono::milliseconds(1), kLongestTimeout));
}

/// Whether Gloo's error is that of a connection to a host of which nothing is
/// heard. It has the text of errno.
bool is_silence(std::string_view error) {
  return std::any_of(
      std::begin(kSilenceErrors), std::end(kSilenceErrors), [&](int number) {
        return error.find(std::generic_category().message(number)) !=
               std::string_view::npos;
      });
}

}  // namespace

GlooMesh::GlooMesh(const ProcessPlace& place, bool local)
    : rendezvous_(place.rendezvous), size_(place.size), local_(local) {
  const std::chrono::milliseconds timeout =
      place.timeout.count() < 0 ? kLongestTimeout : place.timeout;
  const NoPipeSignal guard;  // which Gloo's own thread inherits
  const NewConnections connections;
  try {
    const auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->threads = 1;  // never used: it runs Gloo's own collectives
    options->devices.push_back(
        local ? c10d::ProcessGroupGloo::createDeviceForInterface("lo")
        : place.network.empty()
            ? c10d::ProcessGroupGloo::createDefaultDevice()
            : c10d::ProcessGroupGloo::createDeviceForInterface(place.network));
    gloo_ = c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<RendezvousStore>(place.rendezvous, "gloo/",
                                             timeout),
        place.rank, place.size, options);
    if (!local) {
      connections.limit_silence();
    }
    address_ = connections.own_address();
    rendezvous_->set(name_of_connected(place.rank), "");
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw CommError(concat(
        "gloo: rank ", place.rank, " of ", place.size,
        " cannot connect to the others: ", text.substr(0, text.find('\n')),
        local ? ""
              : "; name the network interface to use in "
                "COLONNADE_INTERFACE"));
  }
}

GlooMesh::~GlooMesh() = default;

void GlooMesh::close() noexcept {
  wait_until_all_connected();
  abandon();
}

void GlooMesh::wait_until_all_connected() noexcept {
  const auto end = Clock::now() + kConnecting;
  try {
    for (int rank = 0; rank < size_; ++rank) {
      rendezvous_->get(name_of_connected(rank), left_until(end));
    }
  } catch (const std::exception&) {  // one is gone: it needs nothing any more
  }
}

void GlooMesh::abandon() noexcept {
  try {
    transfers_.clear();
    gloo_.reset();
  } catch (...) {  // a destructor of c10d's: nothing is lost but its threads
  }
}

void GlooMesh::send(const void* from, size_t bytes, int peer, uint32_t tag) {
  // c10d takes what it sends as a tensor like any other; it is only read.
  std::vector<at::Tensor> message{bytes_at(const_cast<void*>(from), bytes)};
  const NoPipeSignal guard;
  transfers_.push_back(
      {gloo_->send(message, peer, static_cast<int>(tag)), peer});
}

void GlooMesh::recv(void* to, size_t bytes, int peer, uint32_t tag) {
  std::vector<at::Tensor> message{bytes_at(to, bytes)};
  const NoPipeSignal guard;
  transfers_.push_back(
      {gloo_->recv(message, peer, static_cast<int>(tag)), peer});
}

Mesh::Outcome GlooMesh::wait(Clock::time_point deadline) {
  for (size_t i = 0; i < transfers_.size(); ++i) {
    bool goes_on = set_waited(transfers_[i].work.get());
    try {
      if (goes_on) {
        wait_for(*transfers_[i].work, deadline == Clock::time_point::max()
                                          ? kLongestTimeout
                                          : left_until(deadline));
      }
    } catch (const std::exception& error) {  // which closes the connection
      set_waited(nullptr);
      return Clock::now() >= deadline ? late(i)
             : is_silence(error.what())
                 ? Outcome{Outcome::Kind::kSilent, {transfers_[i].peer}}
                 : Outcome{Outcome::Kind::kGone, {transfers_[i].peer}};
    }
    goes_on &= set_waited(nullptr);
    if (!goes_on) {
      return {.kind = Outcome::Kind::kInterrupted};
    }
  }
  transfers_.clear();
  return {};
}

std::optional<int> GlooMesh::find_silent(Clock::time_point deadline) {
  for (size_t i = 0; !local_ && i < transfers_.size(); ++i) {
    try {
      wait_for(*transfers_[i].work, left_until(deadline));
    } catch (const std::exception& error) {
      if (is_silence(error.what())) {
        return transfers_[i].peer;
      }
    }
  }
  return std::nullopt;
}

void GlooMesh::interrupt() noexcept {
  const std::lock_guard lock(waited_mutex_);
  interrupted_ = true;
  if (waited_ != nullptr) {
    waited_->abort();  // also where it begins to wait only now
  }
}

bool GlooMesh::set_waited(c10d::Work* work) {
  const std::lock_guard lock(waited_mutex_);
  waited_ = work;
  return !interrupted_;
}

/// Transfers before `first` are complete, some after it may be.
Mesh::Outcome GlooMesh::late(size_t first) {
  Outcome outcome{Outcome::Kind::kLate, {transfers_[first].peer}};
  std::vector<int>& missing = outcome.peers;
  for (size_t i = first + 1; i < transfers_.size(); ++i) {
    try {
      wait_for(*transfers_[i].work, std::chrono::milliseconds(1));
    } catch (const std::exception&) {
      missing.push_back(transfers_[i].peer);
    }
  }
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  return outcome;
}

}  // namespace colonnade::detail
