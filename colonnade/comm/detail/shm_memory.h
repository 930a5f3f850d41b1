// colonnade/comm/detail/shm_memory.h
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace colonnade::detail {

/// Memory that processes of one host share: zeros at first, of which only pages
/// that were written take space. It goes with the last process that has it.
class ShmMemory {
 public:
  enum class Kind {
    /// Has no name, so that nothing can stay behind; others open it through
    /// /proc, which their user or their container may not be allowed.
    kUnnamed,
    /// In /dev/shm, whose size may be limited, until `close_to_others`.
    kNamed,
  };

  ShmMemory() = default;
  /// New memory. CommError where the system gives none.
  ShmMemory(size_t bytes, Kind kind);
  /// What the process that made it calls `address`. CommError where it cannot
  /// be opened.
  explicit ShmMemory(const std::string& address);
  ShmMemory(ShmMemory&& other) noexcept { swap(other); }
  ShmMemory& operator=(ShmMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~ShmMemory();

  /// Null where it is none.
  std::byte* data() const;
  const std::string& address() const { return address_; }
  /// To be called once all have opened it: nobody can any more.
  void close_to_others() noexcept;

 private:
  void swap(ShmMemory& other) noexcept;
  void map(size_t bytes);

  std::byte* base_ = nullptr;
  size_t bytes_ = 0;  ///< With the tag in front of `data`.
  int file_ = -1;
  std::string address_;
  bool made_here_ = false;
};

}  // namespace colonnade::detail
