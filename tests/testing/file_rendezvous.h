// tests/testing/file_rendezvous.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/error.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace colonnade {

/// Names are files of a folder, which appear with their content.
class FileRendezvous final : public Rendezvous {
 public:
  explicit FileRendezvous(std::filesystem::path folder)
      : folder_(std::move(folder)) {}

  void set(const std::string& name, std::string_view value) override {
    const std::filesystem::path file = path_of(name);
    const std::filesystem::path draft =
        file.string() + "." + std::to_string(getpid());
    std::ofstream(draft, std::ios::binary) << value;
    std::filesystem::rename(draft, file);
  }

  std::string get(const std::string& name,
                  std::chrono::milliseconds timeout) override {
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (!std::filesystem::exists(path_of(name))) {
      check<CommError>(
          timeout.count() < 0 || std::chrono::steady_clock::now() < end,
          "rendezvous: nobody set ", name);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::ifstream in(path_of(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::filesystem::path path_of(std::string name) const {
    std::replace(name.begin(), name.end(), '/', '.');
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

}  // namespace colonnade
