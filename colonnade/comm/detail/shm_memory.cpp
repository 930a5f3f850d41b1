// colonnade/comm/detail/shm_memory.cpp
#include "colonnade/comm/detail/shm_memory.h"

#include "colonnade/core/error.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

namespace colonnade::detail {
namespace {

/// In front of the memory: a number of its own, by which a process that opens
/// it knows that the address is not by now another file's.
constexpr size_t kTagBytes = 64;

[[noreturn]] void throw_error(const std::string& what) {
  const std::error_code code(errno, std::generic_category());
  throw CommError(concat("shm: ", what, ": ", code.message()));
}

uint64_t random_number() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

ShmMemory::ShmMemory(size_t bytes, Kind kind) : made_here_(true) {
  const uint64_t tag = random_number();
  const std::string text = std::to_string(tag);
  const std::string process = std::to_string(getpid());
  if (kind == Kind::kUnnamed) {
    file_ = memfd_create("colonnade", MFD_CLOEXEC);
    address_ = concat("/proc/", process, "/fd/", file_, " ", text);
  } else {
    const std::string name = concat("/colonnade-", process, "-", text);
    file_ = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    address_ = concat(name, " ", text);
  }
  if (file_ < 0) {
    throw_error("the system gives no shared memory");
  }
  const auto total = static_cast<off_t>(kTagBytes + bytes);
  try {
    if (ftruncate(file_, total) != 0) {
      throw_error(concat("no ", bytes, " bytes of shared memory"));
    }
    map(kTagBytes + bytes);
  } catch (...) {
    close_to_others();
    throw;
  }
  std::memcpy(base_, &tag, sizeof(tag));
}

ShmMemory::ShmMemory(const std::string& address) : address_(address) {
  const size_t space = address.find(' ');
  const std::string path = address.substr(0, space);
  file_ = path.starts_with("/proc/")
              ? open(path.c_str(), O_RDWR | O_CLOEXEC)
              : shm_open(path.c_str(), O_RDWR | O_CLOEXEC, 0600);
  struct stat status {};
  if (file_ < 0 || fstat(file_, &status) != 0) {
    throw_error("the memory " + path + " cannot be opened");
  }
  try {
    check<CommError>(status.st_size > static_cast<off_t>(kTagBytes),
                     "shm: ", path, " is of ", status.st_size,
                     " bytes, not what was announced");
    map(static_cast<size_t>(status.st_size));
    uint64_t tag = 0;
    std::memcpy(&tag, base_, sizeof(tag));
    if (std::to_string(tag) != address.substr(space + 1)) {
      munmap(std::exchange(base_, nullptr), bytes_);
      throw CommError("shm: " + path + " is not what was announced");
    }
  } catch (...) {
    close_to_others();
    throw;
  }
  close_to_others();
}

ShmMemory::~ShmMemory() {
  close_to_others();
  if (base_ != nullptr) {
    munmap(base_, bytes_);
  }
}

std::byte* ShmMemory::data() const {
  return base_ == nullptr ? nullptr : base_ + kTagBytes;
}

void ShmMemory::close_to_others() noexcept {
  if (file_ < 0) {
    return;
  }
  close(std::exchange(file_, -1));
  if (made_here_ && !address_.starts_with("/proc/")) {
    shm_unlink(address_.substr(0, address_.find(' ')).c_str());
  }
}

void ShmMemory::swap(ShmMemory& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(bytes_, other.bytes_);
  std::swap(file_, other.file_);
  std::swap(address_, other.address_);
  std::swap(made_here_, other.made_here_);
}

void ShmMemory::map(size_t bytes) {
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_NORESERVE, file_, 0);
  if (base == MAP_FAILED) {
    throw_error(concat("no ", bytes, " bytes of address space"));
  }
  base_ = static_cast<std::byte*>(base);
  bytes_ = bytes;
}

}  // namespace colonnade::detail
