// colonnade/train/run_folder.h
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace colonnade {

/// The folder of a training run: a checkpoint a step in `step_<number>`, and
/// the file `latest` with the name of the newest.
///
/// A checkpoint is written into `step_<number>.partial` and renamed when it is
/// whole, `latest` likewise; one that it replaces is `step_<number>.old` until
/// then. So a run that dies at any point leaves a folder to resume from. Not
/// collective: one rank calls.
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }

  /// Where step `step` is kept: "step_000100".
  std::filesystem::path checkpoint(int64_t step) const;
  /// Where to write it.
  std::filesystem::path partial(int64_t step) const;
  /// Where the one that it replaces is meanwhile.
  std::filesystem::path replaced(int64_t step) const;

  /// Makes `partial(step)` the checkpoint of `step`, in place of an older one
  /// of that step, and the newest.
  ///
  /// Errors  CheckpointError with the system's reason
  void commit(int64_t step) const;

  /// What `latest` names, or what that was to replace; empty where there is no
  /// checkpoint.
  ///
  /// Errors  CheckpointError where it names a checkpoint that is not there
  std::optional<std::filesystem::path> newest() const;

  /// The steps that have a checkpoint, ascending.
  std::vector<int64_t> steps() const;

  /// Removes all checkpoints but those of the last `keep` steps up to `step`;
  /// later steps, of a run that was taken up again before them, are kept.
  void prune(int64_t step, int64_t keep) const;

 private:
  std::filesystem::path path_;
};

}  // namespace colonnade
