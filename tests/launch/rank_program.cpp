// tests/launch/rank_program.cpp
//
// What process_ranks_test.cpp and mpi_ranks_test.cpp run as ranks:
// `rank_program SCENARIO`.
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/comm/check_collectives.h"
#include "tests/comm/world_group.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>

namespace colonnade {
namespace {

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// The first few, of each kind one, on more than two ranks.
constexpr std::array kDtypes = {at::kFloat,  at::kBFloat16, at::kLong,
                                at::kDouble, at::kHalf,     at::kInt,
                                at::kShort,  at::kChar,     at::kBool};
constexpr size_t kFew = 3;

void collectives() {
  const GroupPtr group = make_world_group();
  const size_t count = group->size() > 2 ? kFew : kDtypes.size();
  for (const at::ScalarType dtype : std::span(kDtypes).first(count)) {
    // Below and above the size up to which tensors go along with the call.
    for (const int64_t n : {0, 7, 300, 20003}) {
      check_collectives(*group, n, dtype);
    }
  }
  check_collectives(*group, (1 << 17) + 3, at::kFloat);
}

void subgroups(int rank) {
  const GroupPtr row = make_group({rank / 2 * 2, rank / 2 * 2 + 1});
  const GroupPtr column = make_group({rank % 2, rank % 2 + 2});
  const GroupPtr alone = make_group({rank});
  const GroupPtr all = make_world_group();
  for (const at::ScalarType dtype : std::span(kDtypes).first(kFew)) {
    for (const int64_t n : {3, 3000}) {  // interleaved
      for (const GroupPtr& group : {row, all, column, alone}) {
        check_collectives(*group, n, dtype);
      }
    }
  }
  if (rank > 0) {
    check_collectives(*make_group({1, 2, 3}), 2000, at::kFloat);
  }
}

void disagree(int rank) {
  const GroupPtr group = make_world_group();
  group->barrier();
  at::Tensor x = at::zeros({2, rank == 1 ? 5000 : 4});
  group->all_reduce(x);
}

void send_the_wrong_shape(int rank) {
  at::Tensor x = at::zeros({rank == 0 ? 4 : 5});
  const GroupPtr group = make_world_group();
  rank == 0 ? group->send(x, 1) : group->recv(x, 0);
}

void send_to_each_other(int rank) {
  make_world_group()->send(at::zeros({1}), 1 - rank);
}

void return_early(int rank) {
  const GroupPtr group = make_world_group();
  group->barrier();
  if (rank != 1) {
    at::Tensor x = at::zeros({4});
    group->all_reduce(x);
  }
}

void throw_on_1(int rank) {
  const GroupPtr group = make_world_group();
  group->barrier();
  if (rank == 1) {
    throw std::length_error("the cause");
  }
  try {
    group->barrier();
  } catch (const CommError& error) {
    say(concat("first: ", error.what()));
  }
  group->barrier();
}

void be_late(int rank) {
  const GroupPtr group = make_world_group();
  group->barrier();
  group->set_timeout(std::chrono::milliseconds(200));
  if (rank == 1) {
    std::this_thread::sleep_for(std::chrono::seconds(2));
  }
  at::Tensor x = at::zeros({4});
  group->all_reduce(x);
}

void reduce_for_ever() {
  const GroupPtr group = make_world_group();
  at::Tensor x = at::ones({100000});
  group->all_reduce(x);
  say("running");
  for (;;) {
    x.fill_(1);
    group->all_reduce(x);
  }
}

void signal_1(int rank, int signal) {
  const GroupPtr group = make_world_group();
  group->barrier();
  if (rank == 1) {
    raise(signal);
  }
  group->barrier();
}

void wait_for_ever(int rank) {
  const int64_t size = RankContext::current()->world()->size();
  parallel_state::initialize_model_parallel(size);
  const GroupPtr group = parallel_state::get_tensor_model_parallel_group();
  group->barrier();
  say("waiting");
  if (rank == 0) {
    at::Tensor x = at::ones({4});
    group->all_reduce(x);
  }
  std::this_thread::sleep_for(std::chrono::hours(1));
}

void wait_a_little(int rank) {
  const GroupPtr group = make_world_group();
  if (rank == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  group->barrier();
}

/// Microseconds of an all-reduce, the slowest rank's; the median of five.
void measure(int rank) {
  const GroupPtr group = make_world_group();
  for (const int64_t bytes :
       {8, 512, 4 << 10, 64 << 10, 1 << 20, 8 << 20, 64 << 20}) {
    at::Tensor x = at::ones({bytes / 4});
    const int rounds =
        static_cast<int>(std::clamp<int64_t>((8 << 20) / bytes, 3, 1000));
    std::array<float, 5> times;
    for (float& slowest : times) {
      group->all_reduce(x, ReduceOp::kMax);
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < rounds; ++i) {
        group->all_reduce(x, ReduceOp::kMax);
      }
      const std::chrono::duration<float, std::micro> time =
          std::chrono::steady_clock::now() - start;
      at::Tensor taken = at::full({1}, time.count() / rounds);
      group->all_reduce(taken, ReduceOp::kMax);
      slowest = taken.item<float>();
    }
    std::sort(times.begin(), times.end());
    if (rank == 0) {
      say(concat("all_reduce of ", bytes, " bytes: ", times[2], " us, best ",
                 times[0], " us"));
    }
  }
}

/// After the launch that runs `scenario`.
void launch_again() {
  for (int i = 0; i < 3; ++i) {
    launch([](int rank) {
      at::Tensor x = at::ones({4});
      make_world_group()->all_reduce(x);
      if (rank == 0) {
        say(concat("sum ", x.sum().item<int>()));
      }
    });
  }
}

int run(const std::string& scenario) {
  const std::map<std::string, std::function<void(int)>> scenarios = {
      {"nothing", [](int) {}},
      {"collectives", [](int) { collectives(); }},
      {"subgroups", subgroups},
      {"disagree", disagree},
      {"send_the_wrong_shape", send_the_wrong_shape},
      {"send_to_each_other", send_to_each_other},
      {"return_early", return_early},
      {"throw_on_1", throw_on_1},
      {"be_late", be_late},
      {"reduce_for_ever", [](int) { reduce_for_ever(); }},
      {"kill_1", [](int rank) { signal_1(rank, SIGKILL); }},
      {"stop_1", [](int rank) { signal_1(rank, SIGSTOP); }},
      {"launch_again", [](int) {}},
      {"wait_for_ever", wait_for_ever},
      {"wait_without_limit", wait_a_little},
      {"measure", measure},
  };
  LaunchOptions options;
  options.timeout = scenario == "wait_without_limit"
                        ? std::chrono::milliseconds::max()
                        : std::chrono::seconds(30);
  try {
    launch(
        [&](int rank) {
          const WorldPtr world = RankContext::current()->world();
          say(concat("rank ", rank, " of ", world->size(), " on ",
                     world->backend()));
          scenarios.at(scenario)(rank);
        },
        options);
    if (scenario == "launch_again") {
      launch_again();
    }
  } catch (const CommError& error) {
    say(concat("CommError: ", error.what()));
    return 3;
  } catch (const InvalidArgument& error) {
    say(concat("InvalidArgument: ", error.what()));
    return 2;
  } catch (const std::exception& error) {
    say(concat("exception: ", error.what()));
    return 1;
  }
  return testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed() ? 4
                                                                         : 0;
}

}  // namespace
}  // namespace colonnade

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return colonnade::run(argc > 1 ? argv[1] : "nothing");
}
