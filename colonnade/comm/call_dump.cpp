#include "colonnade/comm/call_dump.h"

#include "colonnade/comm/call_log.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {
namespace {

using c10::IValue;

// Of Any: a list of ints would be pickled as a type that needs torch to read.
c10::impl::GenericList new_list() {
  return c10::impl::GenericList(c10::AnyType::get());
}

c10::impl::GenericDict new_dict() {
  return c10::impl::GenericDict(c10::StringType::get(), c10::AnyType::get());
}

/// What the flight recorder calls a call. Its analyser knows NCCL's names only.
std::string profiling_name(const Group& group, const CallKey& key) {
  switch (key.collective) {
    case Collective::kAllGather:
      return "nccl:_all_gather_base";
    case Collective::kReduceScatter:
      return "nccl:_reduce_scatter_base";
    case Collective::kBarrier:
      return "nccl:all_reduce_barrier";
    case Collective::kSend:
      return concat("nccl:send ", group.rank(), "->", key.peer);
    case Collective::kRecv:
      return concat("nccl:recv ", group.rank(), "<-", key.peer);
    default:
      return concat("nccl:", name_of(key.collective));
  }
}

/// The sizes of the call's one tensor, as a list of lists.
IValue sizes_of(const Call& call) {
  auto sizes = new_list();
  for (int i = 0; i < std::min<int>(call.key.dims, Call::kMaxDims); ++i) {
    sizes.emplace_back(call.sizes[static_cast<size_t>(i)]);
  }
  auto all = new_list();
  all.emplace_back(std::move(sizes));
  return all;
}

/// Of the output the record has the number of elements alone.
IValue output_sizes_of(const Group& group, const Call& call) {
  auto sizes = new_list();
  switch (call.key.collective) {
    case Collective::kAllGather:
      sizes.emplace_back(call.key.numel * group.size());
      break;
    case Collective::kReduceScatter:
      sizes.emplace_back(call.key.numel / group.size());
      break;
    default:
      return sizes_of(call);
  }
  auto all = new_list();
  all.emplace_back(std::move(sizes));
  return all;
}

IValue dtypes_of(const Call& call) {
  auto all = new_list();
  all.emplace_back(std::string(c10::toString(call.key.dtype)));
  return all;
}

/// One frame: the layer that called, where PyTorch has a stack.
IValue frames_of(const Call& call) {
  auto frames = new_list();
  if (!call.site.empty()) {
    auto frame = new_dict();
    frame.insert("name", std::string(call.site.text()));
    frame.insert("filename",
                 std::string(call.site.is_backward() ? "backward" : "forward"));
    frame.insert("line", int64_t{0});
    frames.emplace_back(std::move(frame));
  }
  return frames;
}

IValue name_of_group(const Group& group) {
  return c10::ivalue::Tuple::create(
      {IValue(group.name()), IValue(std::string("colonnade"))});
}

IValue entry_of(const Group& group, const CallRecord& record, int64_t id) {
  const auto number = static_cast<int64_t>(record.number);
  const bool is_collective = record.call.is_collective();
  const bool has_ended = record.ended_ns != 0;
  auto entry = new_dict();
  entry.insert("record_id", id);
  entry.insert("pg_id", int64_t{0});
  entry.insert("process_group", name_of_group(group));
  entry.insert("collective_seq_id", is_collective ? number : 0);
  entry.insert("p2p_seq_id", is_collective ? 0 : number);
  entry.insert("op_id", id);
  entry.insert("is_p2p", !is_collective);
  entry.insert("profiling_name", profiling_name(group, record.call.key));
  entry.insert("input_sizes", sizes_of(record.call));
  entry.insert("output_sizes", output_sizes_of(group, record.call));
  entry.insert("input_dtypes", dtypes_of(record.call));
  entry.insert("output_dtypes", dtypes_of(record.call));
  entry.insert("frames", frames_of(record.call));
  entry.insert("time_created_ns", record.begun_ns);
  entry.insert("time_discovered_started_ns", record.begun_ns);
  entry.insert("time_discovered_completed_ns",
               has_ended ? IValue(record.ended_ns) : IValue());
  entry.insert("state", std::string(has_ended ? "completed" : "started"));
  entry.insert("retired", has_ended);
  entry.insert("timeout_ms", int64_t{group.timeout().count()});
  return entry;
}

IValue group_config(const Group& group) {
  std::string ranks;
  for (const int64_t rank : group.ranks()) {
    ranks += concat(ranks.empty() ? "[" : ", ", rank);
  }
  auto config = new_dict();
  config.insert("name", group.name());
  config.insert("desc", std::string("colonnade"));
  config.insert("ranks", ranks + ']');
  return config;
}

}  // namespace

void dump_calls(const std::string& path) {
  auto entries = new_list();
  auto configs = new_dict();
  int64_t id = 0;
  for (const GroupPtr& group : RankContext::current()->groups()) {
    configs.insert(group->name(), group_config(*group));
    for (const CallRecord& record : group->calls().records()) {
      entries.emplace_back(entry_of(*group, record, id++));
    }
  }
  auto dump = new_dict();
  dump.insert("version", std::string("2.10"));  // of the format
  dump.insert("pg_config", std::move(configs));
  dump.insert("pg_status", new_dict());
  dump.insert("entries", std::move(entries));

  std::ofstream file(path, std::ios::binary);
  // Without the type tags that only torch reads.
  torch::jit::Pickler pickler(
      [&](const char* bytes, size_t size) {
        file.write(bytes, static_cast<std::streamsize>(size));
      },
      /*tensor_table=*/nullptr, /*type_renamer=*/nullptr,
      /*memoized_class_types=*/nullptr, /*get_tensor_id=*/nullptr,
      /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(dump);
  pickler.stop();
  file.close();
  check<CommError>(file.good(), "dump_calls: cannot write ", path, ": ",
                   std::strerror(errno),
                   "; name a file in a folder that exists");
}

}  // namespace colonnade
