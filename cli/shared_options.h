// cli/shared_options.h
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace colonnade::cli {

// Options of several commands.
void add_checkpoint_option(CLI::App& app, std::string& checkpoint);
CLI::Option* add_tp_option(CLI::App& app, int& tp);
CLI::Option* add_backend_option(CLI::App& app, std::string& backend);

/// text  what it is the dtype of, and the default
CLI::Option* add_dtype_option(CLI::App& app, std::string& name,
                              const std::string& text);
/// Of a name that the option takes.
at::ScalarType dtype_named(const std::string& name);

/// What the commands take that load a traced model.
struct TracedModelOptions {
  std::string folder;
  std::optional<int64_t> tp;  ///< Empty: as traced.
  std::string backend;
  bool optimize = true;
};

void add_traced_model_options(CLI::App& app, TracedModelOptions& options);

}  // namespace colonnade::cli
