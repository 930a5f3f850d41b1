// colonnade/comm/detail/host_process.cpp
#include "colonnade/comm/detail/host_process.h"

#include "colonnade/core/error.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace colonnade::detail {
namespace {

/// What the system says of a process; of none, an empty state.
struct ProcessStat {
  std::string state;
  uint64_t start = 0;
  int status = 0;  ///< As of wait(2), where it has ended.
};

/// <linux/pidfd.h> of Linux 6.15, which tells it of a process that is gone.
struct PidfdInfo {
  static constexpr uint64_t kExit = 1 << 3;

  uint64_t mask = kExit;
  uint64_t group = 0;
  uint32_t ids[11] = {};
  int32_t status = 0;
};
constexpr unsigned long kGetPidfdInfo = _IOWR(0xff, 11, PidfdInfo);

ProcessStat stat_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');  // the name may have any characters
  ProcessStat stat;
  if (name_end == std::string::npos) {
    return stat;
  }
  std::istringstream fields(text.substr(name_end + 1));
  fields >> stat.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) {
    fields >> skipped;
  }
  fields >> stat.start;
  for (int field = 23; field < 52; ++field) {
    fields >> skipped;
  }
  fields >> stat.status;
  return stat;
}

}  // namespace

HostProcess::HostProcess(pid_t pid, uint64_t start) : pid_(pid), start_(start) {
#ifdef SYS_pidfd_open
  handle_ = Descriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (handle_ && start_of(pid) != start) {  // another by now
    handle_ = Descriptor();
  }
#endif
}

bool HostProcess::lives() const {
  if (!handle_) {
    return start_of(pid_) == start_;
  }
  pollfd ended{handle_.number(), POLLIN, 0};
  return poll(&ended, 1, 0) != 1;
}

std::string HostProcess::how_it_ended() const {
  PidfdInfo info;
  std::optional<int> status;
  if (handle_ && ioctl(handle_.number(), kGetPidfdInfo, &info) == 0 &&
      (info.mask & PidfdInfo::kExit) != 0) {
    status = info.status;
  } else if (const ProcessStat stat = stat_of(pid_);
             stat.start == start_ && stat.state == "Z") {
    status = stat.status;
  }
  if (!status) {
    return {};
  }
  return WIFSIGNALED(*status)
             ? concat(" (signal ", WTERMSIG(*status), ')')
             : concat(" (exit status ", WEXITSTATUS(*status), ')');
}

bool HostProcess::is_stopped() const {
  const ProcessStat stat = stat_of(pid_);
  return stat.state == "T" && stat.start == start_;
}

uint64_t HostProcess::start_of(pid_t pid) {
  const ProcessStat stat = stat_of(pid);
  return stat.state == "Z" || stat.state == "X" ? 0 : stat.start;
}

}  // namespace colonnade::detail
