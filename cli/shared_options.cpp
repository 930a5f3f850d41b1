// cli/shared_options.cpp
#include "cli/shared_options.h"

#include "cli/validators.h"
#include "colonnade/comm/backend.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 3> kDtypes{{
    {"float32", at::kFloat},
    {"bfloat16", at::kBFloat16},
    {"float64", at::kDouble},
}};

}  // namespace

void add_checkpoint_option(CLI::App& app, std::string& checkpoint) {
  app.add_option("--checkpoint", checkpoint,
                 "The folder of a run, or of one of its checkpoints")
      ->required();
}

CLI::Option* add_tp_option(CLI::App& app, int& tp) {
  return app.add_option("--tp", tp, "Ranks that each matrix is split over")
      ->check(at_least(1))
      ->capture_default_str();
}

CLI::Option* add_backend_option(CLI::App& app, std::string& backend) {
  std::vector<std::string> names;
  for (const Backend& row : backends()) {
    names.emplace_back(row.name);
  }
  return app
      .add_option("--backend", backend,
                  "How ranks exchange tensors; the fastest that fits, if not "
                  "given")
      ->check(one_of(names))
      ->type_name("NAME");
}

CLI::Option* add_dtype_option(CLI::App& app, std::string& name,
                              const std::string& text) {
  std::vector<std::string> names;
  for (const auto& dtype : kDtypes) {
    names.emplace_back(dtype.first);
  }
  return app.add_option("--dtype", name, text)
      ->check(one_of(names))
      ->type_name("NAME");
}

at::ScalarType dtype_named(const std::string& name) {
  return std::find_if(kDtypes.begin(), kDtypes.end(),
                      [&](const auto& dtype) { return dtype.first == name; })
      ->second;
}

void add_traced_model_options(CLI::App& app, TracedModelOptions& options) {
  app.add_option("folder", options.folder,
                 "A traced model, as `colonnade trace` makes it")
      ->required();
  app.add_option("--tp", options.tp,
                 "Ranks that each matrix is split over; as many as it was "
                 "traced on, if not given")
      ->check(at_least(1));
  add_backend_option(app, options.backend);
  app.add_flag_callback(
      "--no-optimize", [&options] { options.optimize = false; },
      "Run the graph as it was traced, call by call");
}

}  // namespace colonnade::cli
