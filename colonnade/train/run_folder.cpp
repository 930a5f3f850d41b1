// colonnade/train/run_folder.cpp
#include "colonnade/train/run_folder.h"

#include "colonnade/core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace colonnade {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kPartial = ".partial";
constexpr std::string_view kReplaced = ".old";
constexpr const char* kLatest = "latest";

[[noreturn]] void fail(const fs::path& path, const std::string& reason) {
  throw CheckpointError(
      concat("RunFolder: cannot write ", path.string(), ": ", reason));
}

std::string folder_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof(name), "step_%06lld",
                static_cast<long long>(step));
  return name;
}

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) {
    return {};
  }
  int64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] =
      std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || rest != end) {
    return {};
  }
  return step;
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) {
    fail(folder, error.message());
  }
}

/// Makes what happened to `path` survive a loss of power.
void sync(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 || fsync(file) != 0) {
    const int error = errno;
    if (file >= 0) {
      close(file);
    }
    fail(path, std::strerror(error));
  }
  close(file);
}

void rename_entry(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) {
    fail(to, error.message());
  }
}

void rename_and_sync(const fs::path& from, const fs::path& to) {
  rename_entry(from, to);
  sync(to.parent_path());
}

void write_and_sync(const fs::path& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
  out.close();
  if (!out) {
    fail(file, "it cannot take its text; see whether the disk is full");
  }
  sync(file);
}

}  // namespace

RunFolder::RunFolder(fs::path path) : path_(std::move(path)) {}

fs::path RunFolder::checkpoint(int64_t step) const {
  return path_ / folder_name(step);
}

fs::path RunFolder::partial(int64_t step) const {
  return path_ / (folder_name(step) + std::string(kPartial));
}

fs::path RunFolder::replaced(int64_t step) const {
  return path_ / (folder_name(step) + std::string(kReplaced));
}

void RunFolder::commit(int64_t step) const {
  if (fs::exists(checkpoint(step))) {
    remove_folder(replaced(step));
    rename_entry(checkpoint(step), replaced(step));
  }
  rename_and_sync(partial(step), checkpoint(step));
  remove_folder(replaced(step));

  const fs::path latest = path_ / kLatest;
  const fs::path fresh = path_ / (std::string(kLatest) + ".new");
  write_and_sync(fresh, folder_name(step) + '\n');
  rename_and_sync(fresh, latest);
}

std::optional<fs::path> RunFolder::newest() const {
  std::ifstream file(path_ / kLatest);
  std::string name;
  if (!(file >> name)) {
    return {};
  }
  fs::path folder = path_ / name;
  if (!fs::exists(folder)) {
    folder += kReplaced;
  }
  check<CheckpointError>(
      fs::is_directory(folder), "RunFolder: ", (path_ / kLatest).string(),
      " names ", name, ", which is not there; name a checkpoint folder");
  return folder;
}

std::vector<int64_t> RunFolder::steps() const {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    if (const auto step = step_of(entry.path().filename().string())) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void RunFolder::prune(int64_t step, int64_t keep) const {
  std::vector<int64_t> old = steps();
  std::erase_if(old, [&](int64_t other) { return other > step; });
  const auto count = static_cast<int64_t>(old.size());
  for (int64_t i = 0; i < count - keep; ++i) {
    const int64_t gone = old[static_cast<size_t>(i)];
    remove_folder(checkpoint(gone));
    remove_folder(replaced(gone));
  }
}

}  // namespace colonnade
