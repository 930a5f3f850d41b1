// colonnade/core/cores.cpp
#include "colonnade/core/cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

namespace colonnade {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

/// Processor time a second that cgroup v2 grants in `folder`, in seconds.
double quota_of_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) {
    return kNoQuota;
  }
  return std::stod(quota) / period;
}

/// The same of cgroup v1.
double quota_of_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 ||
      period <= 0) {
    return kNoQuota;
  }
  return quota / period;
}

/// The least that `quota_of` says from `root`/`path` up to `root`: a limit of
/// any ancestor binds.
template <typename QuotaOf>
double least_quota(const std::string& root, std::string path,
                   QuotaOf quota_of) {
  double least = quota_of(root);
  while (path.size() > 1) {
    least = std::min(least, quota_of(root + path));
    path.erase(path.rfind('/'));
  }
  return least;
}

double cgroup_quota() {
  double least = kNoQuota;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1.
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    std::string controllers = line.substr(first, second - first);
    std::replace(controllers.begin(), controllers.end(), ':', ',');
    controllers.push_back(',');
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      least = std::min(least, least_quota("/sys/fs/cgroup", path, quota_of_v2));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      least =
          std::min(least, least_quota("/sys/fs/cgroup/cpu", path, quota_of_v1));
    }
  }
  return least;
}

}  // namespace

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) {
        cores.push_back(i);
      }
    }
  }
  if (cores.empty()) {  // more than CPU_SETSIZE: the kernel refuses the mask
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency());
         ++i) {
      cores.push_back(static_cast<int>(i));
    }
  }
  return cores;
}

int usable_cores() {
  const double quota = std::ceil(cgroup_quota());
  const auto allowed = static_cast<double>(allowed_cores().size());
  return static_cast<int>(std::max(1.0, std::min(quota, allowed)));
}

}  // namespace colonnade
