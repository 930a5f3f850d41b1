// colonnade/checkpoint/detail/wanted.cpp
#include "colonnade/checkpoint/detail/wanted.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/thread_team.h"
#include "colonnade/core/error.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <string>

namespace colonnade::detail {
namespace {

using nlohmann::json;

constexpr int64_t kTaskBytes = int64_t{512} << 10;
constexpr int64_t kThreadBytes = int64_t{8} << 20;  // that are worth a thread

/// What the other ranks must know of what this one wants.
std::string describe_wanted(const std::vector<Wanted>& wanted) {
  json list = json::array();
  for (const Wanted& tensor : wanted) {
    json entry = {{"name", tensor.source->name}, {"dim", -1}};
    if (tensor.attributes.has_value()) {
      entry["dim"] = tensor.attributes->spec.dim;
      entry["ranges"] = json::array();
      for (const IndexRange& range : tensor.attributes->spec.ranges) {
        entry["ranges"].push_back({range.begin, range.end});
      }
    }
    list.push_back(std::move(entry));
  }
  return list.dump();
}

/// Of each wanted tensor, which part this rank answers for in the sum of
/// digests: the ranges of which it is the first holder.
std::vector<std::vector<IndexRange>> find_answers(
    const std::vector<Wanted>& wanted, const std::vector<std::string>& texts,
    int rank) {
  std::vector<json> ranks;
  for (const std::string& text : texts) {
    ranks.push_back(json::parse(text));
    check_arg(ranks.back().size() == wanted.size(), "load: the model has ",
              ranks[0].size(), " tensors to fill on rank 0 and ",
              ranks.back().size(), " on rank ", ranks.size() - 1);
  }
  std::vector<std::vector<IndexRange>> answers(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    std::vector<std::vector<IndexRange>> ranges;
    for (size_t other = 0; other < ranks.size(); ++other) {
      const json& entry = ranks[other][i];
      check_arg(entry["name"] == ranks[0][i]["name"] &&
                    entry["dim"] == ranks[0][i]["dim"],
                "load: ", wanted[i].source->name,
                ": is split differently in the models of rank 0 and rank ",
                other);
      auto& list = ranges.emplace_back();
      for (const json& range : entry.value("ranges", json::array())) {
        list.push_back({range[0], range[1]});
      }
    }
    if (!wanted[i].attributes.has_value()) {
      continue;
    }
    const ShardSpec& spec = wanted[i].attributes->spec;
    const auto holdings = find_holders(spec.whole_size, ranges);
    for (const Holding& holding : holdings) {
      check_arg(!holding.holders.empty(), "load: ", wanted[i].source->name,
                ": no rank of the tensor-parallel group has [",
                holding.range.begin, ", ", holding.range.end, ") of dim ",
                spec.dim, " in its model");
    }
    answers[i] = first_held(holdings, rank);
  }
  return answers;
}

/// One wanted tensor while it is read.
struct Reading {
  const StoredTensor* source;
  std::span<const StoredPart> parts;  ///< That have it.
  Piece piece;                        ///< What this rank wants.
  Piece counted;                      ///< What of it this rank digests.
  char* data;                         ///< The value that `piece` describes.
  int64_t element_size;
  bool is_mapped = false;
  uint64_t digest = 0;
};

Piece piece_of(const Wanted& wanted, int rank) {
  const StoredTensor& source = *wanted.source;
  if (source.belongs_to_rank()) {
    return source.parts[static_cast<size_t>(rank)].piece;
  }
  if (!wanted.attributes.has_value()) {
    return whole_piece(c10::multiply_integers(source.shape));
  }
  const ShardSpec& spec = wanted.attributes->spec;
  return make_piece(source.shape, spec.dim, spec.ranges, spec.local_size);
}

std::vector<int64_t> shape_of(const Wanted& wanted, int rank) {
  const StoredTensor& source = *wanted.source;
  if (source.belongs_to_rank()) {
    return source.rank_shapes[static_cast<size_t>(rank)];
  }
  return wanted.attributes.has_value()
             ? wanted.attributes->spec.local_shape(source.shape)
             : source.shape;
}

Piece counted_piece(const Wanted& wanted, const Piece& piece,
                    const std::vector<IndexRange>& answers) {
  const StoredTensor& source = *wanted.source;
  if (!source.digest.has_value()) {
    return restrict_to(piece, {});
  }
  return wanted.attributes.has_value() && !source.belongs_to_rank()
             ? restrict_to(piece, answers)
             : piece;
}

/// Makes the value: the file's own bytes where that is wanted and they lie as
/// the value does, else memory of its own.
Reading begin_reading(Wanted& wanted, const std::vector<IndexRange>& answers,
                      int rank) {
  const StoredTensor& source = *wanted.source;
  std::span<const StoredPart> parts = source.parts;
  if (source.belongs_to_rank()) {
    parts = parts.subspan(static_cast<size_t>(rank), 1);
  }
  const Piece piece = piece_of(wanted, rank);
  const auto shape = shape_of(wanted, rank);
  const auto options = at::TensorOptions().dtype(source.dtype);
  const auto element_size =
      static_cast<int64_t>(c10::elementSize(source.dtype));
  const bool is_padded = piece.numel() < c10::multiply_integers(shape);
  std::optional<MappedBytes> mapped;
  if (wanted.map && !is_padded) {
    mapped = find_mapped(parts, piece, element_size);
  }
  if (mapped.has_value()) {
    wanted.value = at::from_blob(
        mapped->data, shape, [file = mapped->file](void* /*data*/) {}, options);
  } else {
    wanted.value =
        is_padded ? at::zeros(shape, options) : at::empty(shape, options);
  }
  return {&source,
          parts,
          piece,
          counted_piece(wanted, piece, answers),
          static_cast<char*>(wanted.value.mutable_data_ptr()),
          element_size,
          mapped.has_value()};
}

/// A stretch of a tensor, small enough to be digested while the cache has it.
struct Task {
  Reading* reading;
  IndexRange window;
};

/// Reads what is wanted, and adds up the digests.
void run(std::vector<Reading>& readings) {
  std::vector<Task> tasks;
  int64_t bytes = 0;
  for (Reading& reading : readings) {
    bytes += reading.piece.numel() * reading.element_size;
    for (const IndexRange& window :
         cut_windows(reading.piece, kTaskBytes / reading.element_size)) {
      tasks.push_back({&reading, window});
    }
  }
  const auto threads = static_cast<int>(
      std::min<int64_t>(at::get_num_threads(), bytes / kThreadBytes + 1));
  std::vector<std::vector<char>> buffers(static_cast<size_t>(threads));
  share_work(
      static_cast<int64_t>(tasks.size()), threads, [&](int64_t i, int thread) {
        const Task& task = tasks[static_cast<size_t>(i)];
        Reading& reading = *task.reading;
        if (!reading.is_mapped) {
          for (const StoredPart& part : reading.parts) {
            read_part(part, reading.piece, task.window, reading.data,
                      reading.element_size,
                      buffers[static_cast<size_t>(thread)]);
          }
        }
        const uint64_t digest =
            tensor_digest(reading.source->name, reading.counted, reading.data,
                          reading.element_size, task.window);
        std::atomic_ref(reading.digest).fetch_add(digest);
      });
}

/// Throws, naming the file where it can, unless `digest` is the saved one.
void check_digest(const StoredTensor& source, std::span<const StoredPart> parts,
                  uint64_t digest, uint64_t saved) {
  if (digest == saved) {
    return;
  }
  for (const StoredPart& part : parts) {
    check_part(source, part);
  }
  throw CheckpointError(concat("load: ", source.name,
                               ": does not match its digest though its parts "
                               "do; the files changed while they were read"));
}

/// Verifies what this rank can by itself; returns its part of the sum of the
/// ranks' digests of anything else.
uint64_t verify(const Wanted& wanted, const Reading& reading) {
  const StoredTensor& source = *wanted.source;
  if (!source.digest.has_value()) {
    return 0;
  }
  if (source.belongs_to_rank()) {
    check_digest(source, reading.parts, reading.digest,
                 reading.parts[0].digest);
  } else if (wanted.attributes.has_value()) {
    return reading.digest;
  } else {
    check_digest(source, reading.parts, reading.digest, *source.digest);
  }
  return 0;
}

/// Throws where the ranks' digests do not add up to the saved one.
void check_sums(const std::vector<Wanted>& wanted,
                const std::vector<std::string>& texts) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const StoredTensor& source = *wanted[i].source;
    if (!wanted[i].attributes.has_value() || !source.digest.has_value()) {
      continue;
    }
    uint64_t sum = 0;
    for (const std::string& text : texts) {
      uint64_t digest = 0;
      std::memcpy(&digest, text.data() + i * sizeof(digest), sizeof(digest));
      sum += digest;
    }
    check_digest(source, source.parts, sum, *source.digest);
  }
}

}  // namespace

void check_degree(const StoredTensor& source, int degree) {
  check<CheckpointError>(
      !source.belongs_to_rank() ||
          source.parts.size() == static_cast<size_t>(degree),
      "load: ", source.name,
      ": belongs to its rank, since it differed between the ",
      source.parts.size(),
      " tensor-parallel ranks that saved it; it cannot be loaded on ", degree);
}

void read_wanted(const CheckpointRanks& ranks, std::vector<Wanted>& wanted) {
  const auto descriptions =
      gather_bytes(ranks.tensor_parallel, describe_wanted(wanted));
  std::vector<uint64_t> digests;
  together(ranks.world, [&] {
    const auto answers = find_answers(wanted, descriptions, ranks.rank);
    std::vector<Reading> readings;
    for (size_t i = 0; i < wanted.size(); ++i) {
      readings.push_back(begin_reading(wanted[i], answers[i], ranks.rank));
    }
    run(readings);
    for (size_t i = 0; i < wanted.size(); ++i) {
      digests.push_back(verify(wanted[i], readings[i]));
    }
  });
  const auto sums = gather_bytes(ranks.tensor_parallel,
                                 {reinterpret_cast<const char*>(digests.data()),
                                  digests.size() * sizeof(uint64_t)});
  together(ranks.world, [&] { check_sums(wanted, sums); });
}

}  // namespace colonnade::detail
