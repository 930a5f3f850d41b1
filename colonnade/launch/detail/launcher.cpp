// colonnade/launch/detail/launcher.cpp
#include "colonnade/launch/detail/launcher.h"

#include "colonnade/core/error.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace colonnade::detail {
namespace {

/// The variables in which a launcher says which rank a process is.
struct Launcher {
  const char* name;
  const char* rank;
  const char* size;
  const char* local_size;
};

constexpr Launcher kOwn = {"COLONNADE_RANK", "COLONNADE_RANK",
                           "COLONNADE_WORLD_SIZE",
                           "COLONNADE_LOCAL_WORLD_SIZE"};
constexpr Launcher kTorchrun = {"torchrun", "RANK", "WORLD_SIZE",
                                "LOCAL_WORLD_SIZE"};
constexpr Launcher kOpenMpi = {"Open MPI's mpirun", "OMPI_COMM_WORLD_RANK",
                               "OMPI_COMM_WORLD_SIZE",
                               "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Launcher kPmi = {"mpiexec", "PMI_RANK", "PMI_SIZE",
                           "MPI_LOCALNRANKS"};
// Not SLURM_NTASKS: that is also in a batch script, which is one process.
constexpr Launcher kSlurm = {"Slurm's srun", "SLURM_PROCID",
                             "SLURM_STEP_NUM_TASKS", nullptr};

constexpr std::array kLaunchers = {&kOwn, &kTorchrun, &kOpenMpi, &kPmi,
                                   &kSlurm};

/// An environment, read as texts and numbers.
class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  std::string text(const char* name) const {
    const char* const value = environment_(name);
    return value == nullptr ? std::string() : value;
  }

  std::optional<int> number(const char* name) const {
    const std::string value = text(name);
    if (value.empty()) {
      return std::nullopt;
    }
    int result = 0;
    const char* const end = value.data() + value.size();
    const auto parsed = std::from_chars(value.data(), end, result);
    check_arg(parsed.ec == std::errc() && parsed.ptr == end && result >= 0,
              "launch: the environment variable ", name, " is \"", value,
              "\"; it must be a number that is not negative");
    return result;
  }

 private:
  const Environment& environment_;
};

struct Claim {
  const Launcher* launcher;
  int rank;
  int size;

  std::string text() const {
    return concat(launcher->name, " says rank ", rank, " of ", size, " (",
                  launcher->rank, "=", rank, ", ", launcher->size, "=", size,
                  ")");
  }
};

std::optional<Claim> claim_of(const Launcher& launcher, const Reader& env) {
  const std::optional<int> size = env.number(launcher.size);
  const std::optional<int> rank = env.number(launcher.rank);
  if (!size || (&launcher == &kSlurm && !rank)) {
    check_arg(!rank || &launcher != &kOwn, "launch: ", launcher.rank,
              " is set, and ", launcher.size,
              " is not; set it to the number of ranks");
    return std::nullopt;
  }
  check_arg(rank.has_value() || *size <= 1, "launch: ", launcher.size, " is ",
            *size, ", and ", launcher.rank,
            " is not set; set it to the rank of this process, or unset both");
  const Claim claim{&launcher, rank.value_or(0), *size};
  check_arg(*size == 0 || claim.rank < *size, "launch: ", claim.text(),
            ", but ranks are numbered from 0 to ", *size - 1);
  return claim;
}

/// The launcher that started this process itself, not one around it.
std::optional<Claim> find_claim(const Reader& env) {
  std::optional<Claim> found;
  for (const Launcher* const launcher : kLaunchers) {
    const std::optional<Claim> claim = claim_of(*launcher, env);
    if (!claim) {
      continue;
    }
    if (!found) {
      found = claim;
      continue;
    }
    // PMI of the same ranks is Slurm's own (srun --mpi=pmi2).
    if (found->launcher == &kPmi && claim->launcher == &kSlurm &&
        claim->rank == found->rank && claim->size == found->size) {
      found = claim;
      continue;
    }
    // torchrun runs under mpirun and srun, once a host, and so does mpirun
    // under srun. Variables that a user set are to be right.
    const bool set_by_hand =
        found->launcher == &kOwn || (found->launcher == &kTorchrun &&
                                     env.text("TORCHELASTIC_RUN_ID").empty());
    check_arg(!set_by_hand || claim->size <= 1 ||
                  (claim->rank == found->rank && claim->size == found->size),
              "launch: ", found->text(), ", but ", claim->text(),
              "; unset the variables of one of them");
  }
  return found;
}

uint64_t hash_of(std::string_view text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

/// This process's parent, by its number and when it started: of ranks that
/// mpirun or mpiexec started on one host they are equal.
std::string parent() {
  const pid_t id = getppid();
  std::ifstream file(concat("/proc/", id, "/stat"));
  std::ostringstream all;
  all << file.rdbuf();
  // Fields are counted behind the name, which may have spaces: the 20th of
  // them is the time.
  const std::string stat = all.str();
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string field;
  for (int i = 0; i < 20; ++i) {
    fields >> field;
  }
  return concat(id, '-', field);
}

/// Equal on the processes of a job, and only there.
std::string job_of(const Launcher& launcher, bool one_host, const Reader& env) {
  if (&launcher == &kOwn) {
    return env.text("COLONNADE_RUN_ID");
  }
  if (&launcher == &kTorchrun) {
    return concat(env.text("TORCHELASTIC_RUN_ID"), '-',
                  env.text("TORCHELASTIC_RESTART_COUNT"));
  }
  if (&launcher == &kSlurm) {
    return concat("slurm-", env.text("SLURM_JOB_ID"), '-',
                  env.text("SLURM_STEP_ID"), '-',
                  env.text("SLURM_RESTART_COUNT"));
  }
  // Of mpirun itself, not of its daemon on this host.
  const std::string job = env.text("PMIX_NAMESPACE");
  if (!job.empty()) {
    return concat("mpi-", job, '-',
                  hash_of(env.text("OMPI_MCA_orte_hnp_uri")) & 0xffffff);
  }
  return "mpi-" + (one_host ? parent() : env.text("COLONNADE_RUN_ID"));
}

/// Reads "host:port"; the host may be an IPv6 address in brackets.
void set_address(LauncherPlace& place, const char* variable,
                 const std::string& address) {
  const size_t colon = address.rfind(':');
  const char* const end = address.data() + address.size();
  const bool has_both = colon != std::string::npos && colon > 0;
  const auto parsed =
      has_both ? std::from_chars(address.data() + colon + 1, end, place.port)
               : std::from_chars_result{end, std::errc::invalid_argument};
  check_arg(parsed.ec == std::errc() && parsed.ptr == end && place.port > 0,
            "launch: ", variable, " is \"", address,
            "\"; write the host of rank 0 and a free port on it, as in "
            "node1:29400");
  place.host = address.substr(0, colon);
  if (place.host.starts_with('[') && place.host.ends_with(']')) {
    place.host = place.host.substr(1, place.host.size() - 2);
  }
}

/// What the user says of where the ranks meet. Returns whether there is any.
bool find_users_store(LauncherPlace& place, const Reader& env) {
  const std::string master = env.text("COLONNADE_MASTER");
  place.file = env.text("COLONNADE_RENDEZVOUS");
  check_arg(master.empty() || place.file.empty(), "launch: COLONNADE_MASTER (",
            master, ") and COLONNADE_RENDEZVOUS (", place.file,
            ") both say where the ranks meet; unset one of them");
  if (!master.empty()) {
    set_address(place, "COLONNADE_MASTER", master);
    place.serve = place.rank == 0;
  }
  return !master.empty() || !place.file.empty();
}

bool find_torchruns_store(LauncherPlace& place, const Reader& env) {
  const std::string host = env.text("MASTER_ADDR");
  const std::string port = env.text("MASTER_PORT");
  if (host.empty() || port.empty()) {
    return false;
  }
  set_address(place, "MASTER_ADDR:MASTER_PORT", host + ":" + port);
  place.serve =
      place.rank == 0 && env.text("TORCHELASTIC_USE_AGENT_STORE") != "True";
  return true;
}

void find_store(LauncherPlace& place, const Launcher& launcher,
                const Reader& env) {
  if (find_users_store(place, env) ||
      (&launcher == &kTorchrun && find_torchruns_store(place, env))) {
    return;
  }
  if (place.one_host && &launcher != &kOwn && &launcher != &kTorchrun) {
    place.file = (std::filesystem::temp_directory_path() /
                  concat("colonnade-", geteuid(), '-', place.job))
                     .string();
    place.is_own_file = true;
    return;
  }
  if (&launcher == &kSlurm) {
    place.host = first_host(env.text("SLURM_STEP_NODELIST"));
    // Below the ports that systems give out themselves.
    place.port = static_cast<uint16_t>(10000 + hash_of(place.job) % 20000);
    place.serve = place.rank == 0;
  }
  check_arg(!place.host.empty(), "launch: ", launcher.name, " started ",
            place.size,
            " processes, and does not say where they can meet; set "
            "COLONNADE_MASTER=host:port (of rank 0) or "
            "COLONNADE_RENDEZVOUS=file (that all of them see)");
}

}  // namespace

std::string first_host(std::string_view nodes) {
  const size_t end = nodes.find_first_of("[,");
  std::string host(nodes.substr(0, end));
  if (end != std::string_view::npos && nodes[end] == '[') {
    const std::string_view numbers = nodes.substr(end + 1);
    host += numbers.substr(0, numbers.find_first_of("-,]"));
    const std::string_view rest =
        numbers.substr(std::min(numbers.size(), numbers.find(']') + 1));
    host += rest.substr(0, rest.find(','));
  }
  return host;
}

std::optional<LauncherPlace> find_launcher(const Environment& environment) {
  const Reader env(environment);
  const std::optional<Claim> claim = find_claim(env);
  if (!claim || claim->size <= 1) {
    return std::nullopt;
  }
  const Launcher& launcher = *claim->launcher;
  LauncherPlace place{
      .launcher = launcher.name, .rank = claim->rank, .size = claim->size};
  place.one_host = launcher.local_size != nullptr
                       ? env.number(launcher.local_size) == place.size
                       : env.number("SLURM_STEP_NUM_NODES") == 1;
  place.job = job_of(launcher, place.one_host, env);
  find_store(place, launcher, env);
  return place;
}

}  // namespace colonnade::detail
