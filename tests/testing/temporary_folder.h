// tests/testing/temporary_folder.h
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>

namespace colonnade {

/// A folder of its own, removed at the end. Test programs that are ranks of
/// each other (run_as_ranks.sh) have it together: the n-th of one is the n-th
/// of all, and the script removes it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    if (const char* const meeting = std::getenv("COLONNADE_TEST_MEETING")) {
      static int folders = 0;
      path_ = std::filesystem::path(meeting) /
              ("folder" + std::to_string(folders++));
      std::filesystem::create_directories(path_);
      return;
    }
    std::string name =
        (std::filesystem::temp_directory_path() / "colonnade_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    if (std::getenv("COLONNADE_TEST_MEETING") != nullptr) {
      return;
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// All files below, by their path in the folder, with their bytes.
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> result;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) {
        std::ifstream in(entry.path(), std::ios::binary);
        std::ostringstream bytes;
        bytes << in.rdbuf();
        result[std::filesystem::relative(entry.path(), path_).string()] =
            bytes.str();
      }
    }
    return result;
  }

  std::filesystem::path write(std::string_view name,
                              std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace colonnade
