// colonnade/checkpoint/detail/file.cpp
#include "colonnade/checkpoint/detail/file.h"

#include "colonnade/core/error.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw CheckpointError(concat(path.string(), ": ", what, ": ",
                               std::generic_category().message(errno)));
}

/// Repeats a call that a signal interrupts.
template <typename Call>
auto retry(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) {
    result = call();
  }
  return result;
}

int open_or_fail(const fs::path& path, int flags, const char* what) {
  const int descriptor =
      retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
  if (descriptor < 0) {
    fail(path, what);
  }
  return descriptor;
}

}  // namespace

File::File(fs::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

File File::open_for_reading(const fs::path& path) {
  return File(path, open_or_fail(path, O_RDONLY, "cannot be opened"));
}

File File::create(const fs::path& path) {
  return File(path, open_or_fail(path, O_WRONLY | O_CREAT | O_EXCL,
                                 "cannot be created"));
}

int64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    fail(path_, "cannot be read");
  }
  check<CheckpointError>(S_ISREG(status.st_mode), path_.string(),
                         ": is not a plain file");
  return status.st_size;
}

void File::read(int64_t offset, void* data, int64_t size) const {
  char* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = retry([&] {
      return ::pread(descriptor_, at, static_cast<size_t>(size), offset);
    });
    if (got < 0) {
      fail(path_, "cannot be read");
    }
    check<CheckpointError>(got > 0, path_.string(), ": ends at byte ", offset,
                           ", ", size, " bytes early; it was cut");
    at += got;
    offset += got;
    size -= got;
  }
}

std::shared_ptr<char> File::map() const {
  const auto bytes = static_cast<size_t>(size());
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                      descriptor_, 0);
  if (data == MAP_FAILED) {
    fail(path_, "cannot be mapped");
  }
  return {static_cast<char*>(data), [bytes](char* at) { ::munmap(at, bytes); }};
}

void File::write(const void* data, int64_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t put = retry(
        [&] { return ::write(descriptor_, at, static_cast<size_t>(size)); });
    if (put < 0) {
      fail(path_, "cannot be written");
    }
    at += put;
    size -= put;
  }
}

void File::finish() {
  if (retry([&] { return ::fsync(descriptor_); }) != 0) {
    fail(path_, "cannot be written");
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    fail(path_, "cannot be written");
  }
}

std::string read_text(const fs::path& path, int64_t limit) {
  const File file = File::open_for_reading(path);
  const int64_t size = file.size();
  check<CheckpointError>(size <= limit, path.string(), ": has ", size,
                         " bytes, more than the ", limit, " that it may have");
  std::string text(static_cast<size_t>(size), '\0');
  file.read(0, text.data(), size);
  return text;
}

void write_text(const fs::path& path, std::string_view text) {
  File file = File::create(path);
  try {
    file.write(text.data(), static_cast<int64_t>(text.size()));
    file.finish();
  } catch (...) {
    try_remove(path);
    throw;
  }
}

void check_size(const File& file, int64_t bytes) {
  const int64_t size = file.size();
  check<CheckpointError>(size == bytes, file.path().string(), ": has ", size,
                         " bytes, but ", bytes, " were saved; it was ",
                         size < bytes ? "cut" : "added to");
}

void replace_file(const fs::path& path, const fs::path& temporary) {
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    fail(path, "cannot be replaced");
  }
  sync_folder(path.parent_path());
}

void make_folder(const fs::path& path) {
  if (path.empty() || ::mkdir(path.c_str(), 0777) == 0) {
    if (!path.empty()) {
      sync_folder(path.parent_path());
    }
    return;
  }
  if (errno == ENOENT && path.has_parent_path() && path.parent_path() != path) {
    make_folder(path.parent_path());
    if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) {
      sync_folder(path.parent_path());
      return;
    }
  }
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    fail(path, "the folder cannot be made");
  }
}

void sync_folder(const fs::path& path) {
  const fs::path folder = path.empty() ? fs::path(".") : path;
  const int descriptor =
      open_or_fail(folder, O_RDONLY | O_DIRECTORY, "cannot be opened");
  const int result = retry([&] { return ::fsync(descriptor); });
  const int error = errno;
  ::close(descriptor);
  // Some file systems have no fsync of folders, and nothing to make last.
  if (result != 0 && error != EINVAL) {
    errno = error;
    fail(folder, "cannot be written");
  }
}

std::vector<std::string> list_folder(const fs::path& path) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(path, error);
  while (!error && entry != fs::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  return names;
}

std::vector<std::string> list_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  while (!error && entry != fs::recursive_directory_iterator()) {
    if (!fs::is_directory(entry->symlink_status(error))) {
      names.push_back(entry->path().lexically_relative(folder).string());
    }
    entry.increment(error);
  }
  check<CheckpointError>(!error, folder.string(),
                         ": cannot be read: ", error.message());
  std::ranges::sort(names);
  return names;
}

bool try_remove(const fs::path& path) noexcept {
  std::error_code error;
  return fs::remove(path, error);
}

FileGuard::~FileGuard() {
  if (!path_.empty()) {
    try_remove(path_);
  }
}

FileLock::FileLock(fs::path path) : path_(std::move(path)) {
  // Locked before it has its name: nobody may take it for a dead one's.
  fs::path unlocked = path_;
  unlocked += kUnlocked;
  descriptor_ =
      open_or_fail(unlocked, O_RDWR | O_CREAT | O_EXCL, "cannot be created");
  ::flock(descriptor_, LOCK_EX | LOCK_NB);
  if (::rename(unlocked.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::close(descriptor_);
    try_remove(unlocked);
    errno = error;
    fail(path_, "cannot be created");
  }
}

FileLock::~FileLock() {
  try_remove(path_);
  ::close(descriptor_);
}

bool FileLock::is_held(const fs::path& path) {
  const int descriptor =
      retry([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (descriptor < 0) {
    return errno != ENOENT;
  }
  // Shared: two that ask do not take each other for the owner.
  const bool held = ::flock(descriptor, LOCK_SH | LOCK_NB) != 0;
  ::close(descriptor);
  return held;
}

}  // namespace colonnade::detail
