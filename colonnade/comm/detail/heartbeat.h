// colonnade/comm/detail/heartbeat.h
#pragma once

#include "colonnade/comm/detail/descriptor.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/api.h"

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// Asks processes that this one cannot see, those of other hosts, whether they
/// run, and answers them. One thread uses it, which does nothing else.
///
/// A question is a TCP connection. That it comes about is the answer of the
/// other's system; a byte that comes back is the answer of its process. So one
/// that is stopped differs from a host or a network that is lost, of which
/// nothing is concluded here, and from a process that has ended, whose system
/// refuses. Where no connection is let through, nobody is ever found.
class COLONNADE_API Heartbeat {
 public:
  /// A process whose system has answered but not itself for so many looks is
  /// stopped. Counted, not timed: where this process is stopped, none are done.
  static constexpr int kSilentLooks = 15;
  /// How many others a process asks. Those of one host see each other; that
  /// all of them are stopped is found by those of the host before.
  static constexpr int kAsked = 8;
  /// Looks from one question to the next.
  static constexpr int kBetween = 5;

  /// Collective over all processes of the place.
  ///
  /// address  at which the others reach this host
  /// Errors   CommError where this process cannot listen there
  Heartbeat(const ProcessPlace& place, const Peers& peers,
            const std::string& address);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// Answers, and sends what is to be sent, for `pause` or until `wake` can be
  /// read.
  void serve(int wake, std::chrono::milliseconds pause);

  /// One look of a wait, the first of it where `is_new`. Returns a rank that is
  /// stopped.
  std::optional<int> look(bool is_new);

  /// Tells all others, with `serve`, that a rank is lost.
  void tell_lost(std::string_view what);
  /// What another told.
  const std::optional<std::string>& lost() const { return lost_; }

 private:
  struct Address {
    sockaddr_storage bytes{};
    socklen_t size = 0;  ///< 0: it cannot be reached.
  };
  /// A connection to another, and what is still to be sent.
  struct Message {
    int rank;
    Descriptor socket;
    std::string unsent;
    bool is_question;
    bool connected = false;
    bool done = false;
    int looks = 0;  ///< Since it was connected.
  };
  /// A connection of another, and what it has said.
  struct Caller {
    Descriptor socket;
    std::string heard;
    bool done = false;
  };

  static Address parse(const std::string& text);
  std::string listen_at(const std::string& address);
  void say(int rank, std::string_view text, bool is_question);
  /// False where there is none, or this process can have no more files.
  bool accept_caller();
  void hear(Caller& caller);
  void go_on(Message& message, short events);

  std::string token_;  ///< Only processes of the world know it.
  int rank_;
  std::vector<Address> addresses_;  // by rank
  std::vector<int> asked_;
  int looks_ = 0;  ///< Of the wait.
  Descriptor listener_;
  std::vector<Caller> callers_;
  std::vector<Message> messages_;
  std::vector<pollfd> polled_;
  std::optional<std::string> lost_;
};

}  // namespace colonnade::detail
