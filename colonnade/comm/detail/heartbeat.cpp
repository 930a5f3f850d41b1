// colonnade/comm/detail/heartbeat.cpp
#include "colonnade/comm/detail/heartbeat.h"

#include "colonnade/core/error.h"

#include <netdb.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <sstream>
#include <utility>

namespace colonnade::detail {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kAsk = "ask";
constexpr std::string_view kLost = "lost ";
constexpr char kYes = 'y';
constexpr size_t kLongestMessage = size_t{16} << 10;
constexpr size_t kMostCallers = 1024;

std::string new_token() {
  std::random_device device;
  return concat(device(), '-', device(), '-', device());
}

/// -1 where there is none yet, and 0 where there will be none.
ssize_t receive(const Descriptor& socket, char* to, size_t bytes) {
  const ssize_t count = recv(socket.number(), to, bytes, 0);
  const bool later = count < 0 && (errno == EAGAIN || errno == EINTR);
  return later ? -1 : std::max<ssize_t>(count, 0);
}

void take_off(std::string& unsent, const Descriptor& socket) {
  const ssize_t count =
      send(socket.number(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
  if (count > 0) {
    unsent.erase(0, static_cast<size_t>(count));
  }
}

}  // namespace

Heartbeat::Heartbeat(const ProcessPlace& place, const Peers& peers,
                     const std::string& address)
    : rank_(place.rank) {
  Rendezvous& rendezvous = *place.rendezvous;
  const auto name_of = [](int rank) { return concat("heartbeat/", rank); };
  rendezvous.set(name_of(place.rank),
                 concat(new_token(), ' ', listen_at(address)));
  for (int rank = 0; rank < place.size; ++rank) {
    std::istringstream fields(rendezvous.get(name_of(rank), place.timeout));
    std::string token;
    std::string where;
    fields >> token >> std::ws;
    std::getline(fields, where);
    if (rank == 0) {
      token_ = std::move(token);
    }
    addresses_.push_back(parse(where));
  }
  for (int i = 1; i < place.size; ++i) {
    const int rank = (place.rank + i) % place.size;
    if (place.timeout.count() >= 0 && asked_.size() < kAsked &&
        !peers.sees(rank) && addresses_[static_cast<size_t>(rank)].size > 0) {
      asked_.push_back(rank);
    }
  }
}

Heartbeat::~Heartbeat() = default;

std::string Heartbeat::listen_at(const std::string& address) {
  Address here = parse(address + " 0");
  if (here.size == 0) {
    return "nowhere";
  }
  auto* const bytes = reinterpret_cast<sockaddr*>(&here.bytes);
  listener_ = Descriptor(
      socket(bytes->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  std::array<char, NI_MAXSERV> port{};
  check<CommError>(
      listener_ && bind(listener_.number(), bytes, here.size) == 0 &&
          listen(listener_.number(), SOMAXCONN) == 0 &&
          getsockname(listener_.number(), bytes, &here.size) == 0 &&
          getnameinfo(bytes, here.size, nullptr, 0, port.data(), port.size(),
                      NI_NUMERICSERV) == 0,
      "gloo: rank ", rank_, " cannot listen at ", address, ": ",
      std::strerror(errno),
      "; name the network interface to use in COLONNADE_INTERFACE");
  return concat(address, ' ', port.data());
}

Heartbeat::Address Heartbeat::parse(const std::string& text) {
  std::istringstream fields(text);
  std::string host;
  std::string port;
  fields >> host >> port;
  addrinfo numeric{};
  numeric.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  numeric.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  Address address;
  if (!port.empty() &&
      getaddrinfo(host.c_str(), port.c_str(), &numeric, &found) == 0) {
    std::memcpy(&address.bytes, found->ai_addr, found->ai_addrlen);
    address.size = found->ai_addrlen;
    freeaddrinfo(found);
  }
  return address;
}

void Heartbeat::say(int rank, std::string_view text, bool is_question) {
  const Address& to = addresses_[static_cast<size_t>(rank)];
  const auto* const bytes = reinterpret_cast<const sockaddr*>(&to.bytes);
  Descriptor to_it(to.size == 0
                       ? -1
                       : socket(bytes->sa_family,
                                SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (to_it &&
      (connect(to_it.number(), bytes, to.size) == 0 || errno == EINPROGRESS)) {
    messages_.push_back({.rank = rank,
                         .socket = std::move(to_it),
                         .unsent = concat(token_, ' ', text, '\n'),
                         .is_question = is_question});
  }
}

void Heartbeat::serve(int wake, std::chrono::milliseconds pause) {
  const auto end = Clock::now() + pause;
  bool accepts = true;
  for (;;) {
    polled_.assign(
        {{wake, POLLIN, 0}, {accepts ? listener_.number() : -1, POLLIN, 0}});
    for (const Caller& caller : callers_) {
      polled_.push_back({caller.socket.number(), POLLIN, 0});
    }
    for (const Message& message : messages_) {
      polled_.push_back(
          {message.socket.number(),
           static_cast<short>(message.unsent.empty() ? POLLIN : POLLOUT), 0});
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() < 0) {
      return;
    }
    const int ready =
        poll(polled_.data(), polled_.size(), static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    if (ready <= 0 || polled_[0].revents != 0) {
      return;
    }
    size_t next = 2;
    for (Caller& caller : callers_) {
      if (polled_[next++].revents != 0) {
        hear(caller);
      }
    }
    for (Message& message : messages_) {
      go_on(message, polled_[next++].revents);
    }
    std::erase_if(messages_, [](const Message& m) { return m.done; });
    std::erase_if(callers_, [](const Caller& c) { return c.done; });
    if (polled_[1].revents != 0) {
      accepts = accept_caller();
    }
  }
}

bool Heartbeat::accept_caller() {
  Descriptor socket(accept4(listener_.number(), nullptr, nullptr,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
  const bool is_there = static_cast<bool>(socket);
  if (is_there && callers_.size() < kMostCallers) {
    callers_.push_back({std::move(socket), {}});
  }
  return is_there;
}

void Heartbeat::hear(Caller& caller) {
  std::array<char, 1024> bytes{};
  const ssize_t count = receive(caller.socket, bytes.data(), bytes.size());
  if (count < 0) {
    return;
  }
  caller.heard.append(bytes.data(), static_cast<size_t>(count));
  const size_t end = caller.heard.find('\n');
  if (end != std::string::npos) {
    std::string_view line = std::string_view(caller.heard).substr(0, end);
    if (line.starts_with(token_ + ' ')) {
      line.remove_prefix(token_.size() + 1);
      if (line == kAsk) {
        std::string yes(1, kYes);
        take_off(yes, caller.socket);
      } else if (line.starts_with(kLost) && !lost_) {
        lost_ = line.substr(kLost.size());
      }
    }
    caller.heard.clear();
  }
  caller.done = count == 0 || caller.heard.size() > kLongestMessage;
}

void Heartbeat::go_on(Message& message, short events) {
  if ((events & (POLLERR | POLLNVAL)) != 0) {  // refused, or lost on the way
    message.done = true;
  } else if ((events & POLLOUT) != 0) {
    message.connected = true;
    take_off(message.unsent, message.socket);
    message.done = message.unsent.empty() && !message.is_question;
  } else if ((events & (POLLIN | POLLHUP)) != 0) {  // an answer, or its end
    message.done = true;
  }
}

std::optional<int> Heartbeat::look(bool is_new) {
  const auto is_question = [](const Message& m) { return m.is_question; };
  if (is_new) {
    std::erase_if(messages_, is_question);
    looks_ = 0;
  }
  for (Message& message : messages_) {
    message.looks += message.connected ? 1 : 0;
    if (message.is_question && message.looks >= kSilentLooks) {
      return message.rank;
    }
  }
  if (looks_++ % kBetween == 0) {
    for (const int rank : asked_) {
      if (std::none_of(messages_.begin(), messages_.end(),
                       [&](const Message& m) {
                         return m.is_question && m.rank == rank;
                       })) {
        say(rank, kAsk, /*is_question=*/true);
      }
    }
  }
  return std::nullopt;
}

void Heartbeat::tell_lost(std::string_view what) {
  for (int rank = 0; rank < static_cast<int>(addresses_.size()); ++rank) {
    if (rank != rank_) {
      say(rank, concat(kLost, what), /*is_question=*/false);
    }
  }
}

}  // namespace colonnade::detail
