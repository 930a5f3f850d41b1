// cli/text_writer.h
#pragma once

#include "cli/utf8_stream.h"
#include "colonnade/models/generate.h"

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace colonnade::cli {

/// What the commands that write text are asked for.
struct TextOptions {
  std::string prompt;
  std::string tokens_file;
  GenerateOptions generate;

  /// InvalidArgument where the prompt is empty.
  std::vector<int64_t> prompt_ids() const;
};

void add_text_options(CLI::App& app, TextOptions& options);

/// Shows a text on standard output while it is made, and keeps its tokens in
/// the file that was asked for, until Ctrl-C (which the program must catch).
class TextWriter {
 public:
  /// InvalidArgument where the file cannot be written.
  explicit TextWriter(const TextOptions& options);

  void begin();  ///< Shows the prompt.
  /// Takes the next token; false where it shall be the last.
  bool add(const GeneratedToken& token);
  /// Returns the program's exit code; Error where the file has not taken all.
  int end();

 private:
  std::string prompt_;
  std::string tokens_file_;
  std::ofstream tokens_;
  Utf8Stream text_;
};

}  // namespace colonnade::cli
