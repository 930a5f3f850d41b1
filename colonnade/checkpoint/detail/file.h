// colonnade/checkpoint/detail/file.h
// Every system call that touches a checkpoint's files is in file.cpp.
#pragma once

#include "colonnade/core/api.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::detail {

/// An open file. Errors are CheckpointErrors that name it.
class COLONNADE_API File {
 public:
  static File open_for_reading(const std::filesystem::path& path);
  /// A new file; an error where there is one already.
  static File create(const std::filesystem::path& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const;

  /// `size` bytes from `offset`; an error where the file ends before.
  void read(int64_t offset, void* data, int64_t size) const;
  /// All of the file as memory, readable and writable; what is written there
  /// does not reach the file, nor another mapping of it. It stays as long as
  /// the pointer or a copy of it, whatever becomes of the file's name. A file
  /// that somebody shortens meanwhile takes its bytes away from under the
  /// reader (SIGBUS); saves do not, they only ever make new files.
  std::shared_ptr<char> map() const;
  /// Appends.
  void write(const void* data, int64_t size);
  /// Makes what was written survive a power failure, and closes the file.
  void finish();

 private:
  File(std::filesystem::path path, int descriptor);

  std::filesystem::path path_;
  int descriptor_;
};

/// Everything in the file; an error where it is larger than `limit` bytes.
std::string read_text(const std::filesystem::path& path, int64_t limit);

/// A new file with that text, which survives a power failure; removed again
/// where it cannot be written.
void write_text(const std::filesystem::path& path, std::string_view text);

/// Throws CheckpointError unless the file has the `bytes` that were saved.
void check_size(const File& file, int64_t bytes);

/// Puts `temporary` in place of `path` in one step. When this returns, a power
/// failure finds the new file.
void replace_file(const std::filesystem::path& path,
                  const std::filesystem::path& temporary);

/// Makes the folder and its parents where they are missing, so that a power
/// failure does not lose them.
void make_folder(const std::filesystem::path& path);
/// Makes new names in the folder survive a power failure.
void sync_folder(const std::filesystem::path& path);

/// Names in a folder; none where it cannot be read.
std::vector<std::string> list_folder(const std::filesystem::path& path);
/// Paths, relative to the folder and in order, of all that lies in it or below
/// and is not a folder; links are not followed.
std::vector<std::string> list_files(const std::filesystem::path& folder);
/// Removes a file or an empty folder, if it is there and that is allowed.
bool try_remove(const std::filesystem::path& path) noexcept;

/// Removes a file at the end, unless it is told to keep it.
class FileGuard {
 public:
  FileGuard() = default;
  FileGuard(const FileGuard&) = delete;
  FileGuard& operator=(const FileGuard&) = delete;
  ~FileGuard();

  void watch(std::filesystem::path path) { path_ = std::move(path); }
  void keep() { path_.clear(); }

 private:
  std::filesystem::path path_;
};

/// A file that is locked as long as its owner lives: whoever finds it unlocked
/// knows that the owner died.
class COLONNADE_API FileLock {
 public:
  /// Behind its name until it is locked.
  static constexpr std::string_view kUnlocked = ".new";

  /// Makes and locks a new file. The destructor removes it.
  explicit FileLock(std::filesystem::path path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  /// Is somebody alive holding it?
  static bool is_held(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace colonnade::detail
