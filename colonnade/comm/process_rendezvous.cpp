// colonnade/comm/process_rendezvous.cpp
#include "colonnade/comm/process_rendezvous.h"

#include "colonnade/comm/detail/silence.h"
#include "colonnade/comm/detail/store_calls.h"
#include "colonnade/comm/group.h"
#include "colonnade/core/error.h"

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kNoTime{0};

/// What an exception of c10d says, without its stack.
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

class StoreRendezvous final : public Rendezvous {
 public:
  StoreRendezvous(c10::intrusive_ptr<c10d::Store> store, std::string prefix,
                  std::string where)
      : calls_(std::move(store)),
        prefix_(std::move(prefix)),
        where_(std::move(where)) {}

  void set(const std::string& name, std::string_view value) override {
    const std::vector<uint8_t> bytes(value.begin(), value.end());
    make<bool>(
        name,
        [key = prefix_ + name, bytes](c10d::Store& store) {
          store.set(key, bytes);
          return true;
        },
        hangs_ ? kNoTime : detail::kLongestSilence);
  }

  std::string get(const std::string& name,
                  std::chrono::milliseconds timeout) override {
    using Value = std::optional<std::string>;
    const auto start = Clock::now();
    auto pause = std::chrono::milliseconds(1);
    // Looks now and then: waiting in c10d prints, and shuts out other calls.
    for (;;) {
      const auto left =
          timeout.count() < 0
              ? kLongestTimeout
              : timeout - std::chrono::duration_cast<std::chrono::milliseconds>(
                              Clock::now() - start);
      const Value value = make<Value>(
          name,
          [key = prefix_ + name](c10d::Store& store) -> Value {
            if (!store.check({key})) {
              return std::nullopt;
            }
            const std::vector<uint8_t> bytes = store.get(key);
            return std::string(bytes.begin(), bytes.end());
          },
          left);
      if (value) {
        return *value;
      }
      check<CommError>(left.count() > 0, "rendezvous: nobody set \"", name,
                       "\" at ", where_, " within ", timeout.count(),
                       " ms; see whether all ranks were started, and can reach "
                       "it");
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, std::chrono::milliseconds(20));
    }
  }

 private:
  /// patience  of the caller, who waits a little where that is none, unless the
  ///           keeper has not answered before
  template <typename Result>
  Result make(const std::string& name, std::function<Result(c10d::Store&)> call,
              std::chrono::milliseconds patience) {
    // c10d does not connect again, but prints each time that it cannot.
    if (lost_) {
      throw cannot_have(name, "the connection is lost");
    }
    try {
      const auto least = hangs_ ? kNoTime : detail::StoreCalls::kAnswer;
      std::optional<Result> result =
          calls_.make(std::move(call), std::max(patience, least));
      hangs_ = !result;
      if (!result) {
        throw cannot_have(name, "there is no answer");
      }
      return *std::move(result);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      lost_ = true;
      throw cannot_have(name, first_line(error));
    }
  }

  CommError cannot_have(const std::string& name,
                        const std::string& reason) const {
    return CommError(concat(
        "rendezvous: \"", name, "\" cannot be had at ", where_, ": ", reason,
        "; the process that keeps it may have ended or been stopped"));
  }

  detail::StoreCalls calls_;
  std::string prefix_;
  std::string where_;  ///< For errors.
  std::atomic<bool> lost_ = false;
  std::atomic<bool> hangs_ = false;
};

/// A file that processes hold together. c10d removes a store's file too, but
/// leaves it where two processes let go of it at once.
class SharedFile {
 public:
  explicit SharedFile(const std::string& path)
      : path_(path),
        // Made here, since c10d would make it readable to all.
        file_(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
                   0600)) {
    struct stat info {};
    const bool known = file_ >= 0 && fstat(file_, &info) == 0;
    const int reason = errno;
    const bool is_own = known && info.st_uid == geteuid();
    if (!is_own && file_ >= 0) {
      close(file_);
    }
    check<CommError>(known, "rendezvous: cannot open ", path, ": ",
                     std::strerror(reason),
                     "; name a file that all ranks can write");
    check<CommError>(is_own, "rendezvous: ", path,
                     " is another user's; name a file of your own");
    lock(F_RDLCK);
  }
  ~SharedFile() {
    // First let go, then try to be alone: of two at once, one succeeds.
    lock(F_UNLCK);
    if (remove_ && lock(F_WRLCK)) {
      unlink(path_.c_str());
    }
    close(file_);
  }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  bool is_there() const {
    struct stat info {};
    return fstat(file_, &info) == 0 && info.st_nlink > 0;
  }
  /// When this process lets go of the file and no other holds it.
  void remove_at_end() { remove_ = true; }

 private:
  /// Not by flock, as c10d locks it for each access.
  bool lock(int kind) const {
    struct flock whole {};
    whole.l_type = static_cast<decltype(whole.l_type)>(kind);
    whole.l_whence = SEEK_SET;
    return fcntl(file_, F_OFD_SETLK, &whole) == 0;
  }

  std::string path_;
  int file_;
  bool remove_ = false;
};

class FileRendezvous final : public Rendezvous {
 public:
  FileRendezvous(const std::string& path, int size, std::string prefix)
      : size_(size),
        file_(path),
        store_(open_store(path)),
        names_(store_, std::move(prefix), path) {}
  ~FileRendezvous() override {
    try {
      // Nobody is still to come.
      if (file_.is_there() && store_->add(kCame, 0) >= size_) {
        file_.remove_at_end();
      }
    } catch (const std::exception&) {  // removed meanwhile
    }
  }
  FileRendezvous(const FileRendezvous&) = delete;
  FileRendezvous& operator=(const FileRendezvous&) = delete;

  void set(const std::string& name, std::string_view value) override {
    names_.set(name, value);
  }
  std::string get(const std::string& name,
                  std::chrono::milliseconds timeout) override {
    return names_.get(name, timeout);
  }

 private:
  static constexpr char kCame[] = "came";

  static c10::intrusive_ptr<c10d::FileStore> open_store(
      const std::string& path) {
    try {
      auto store =
          c10::make_intrusive<c10d::FileStore>(path, /*numWorkers=*/-1);
      // How long c10d waits for a file that another process has removed.
      store->setTimeout(std::chrono::milliseconds(500));
      store->add(kCame, 1);
      return store;
    } catch (const std::exception& error) {
      throw CommError(
          concat("rendezvous: cannot use ", path, ": ", first_line(error)));
    }
  }

  int size_;
  SharedFile file_;  // let go of last
  c10::intrusive_ptr<c10d::FileStore> store_;
  StoreRendezvous names_;
};

}  // namespace

std::shared_ptr<Rendezvous> tcp_rendezvous(const TcpStore& store,
                                           std::chrono::milliseconds timeout) {
  const std::string where = concat(store.host, ":", store.port);
  c10d::TCPStoreOptions options;
  options.port = store.port;
  options.isServer = store.serve;
  options.waitWorkers = false;
  if (timeout.count() >= 0) {
    options.timeout = timeout;
  }
  try {
    const detail::NewConnections connections;
    auto client = c10::make_intrusive<c10d::TCPStore>(store.host, options);
    connections.limit_silence();
    return std::make_shared<StoreRendezvous>(std::move(client), store.prefix,
                                             where);
  } catch (const std::exception& error) {
    throw CommError(concat(
        "rendezvous: ",
        store.serve ? "cannot serve a store at " : "cannot reach the store at ",
        where, ": ", first_line(error),
        store.serve ? "; choose another port"
                    : "; see whether rank 0 runs, and can be reached from "
                      "here"));
  }
}

std::shared_ptr<Rendezvous> store_rendezvous(
    c10::intrusive_ptr<c10d::Store> store, std::string prefix) {
  return std::make_shared<StoreRendezvous>(std::move(store), std::move(prefix),
                                           "torch.distributed's store");
}

std::shared_ptr<Rendezvous> file_rendezvous(const std::string& path, int size,
                                            std::string prefix) {
  return std::make_shared<FileRendezvous>(path, size, std::move(prefix));
}

}  // namespace colonnade
