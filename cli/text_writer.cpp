// cli/text_writer.cpp
#include "cli/text_writer.h"

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/validators.h"
#include "colonnade/core/error.h"
#include "colonnade/train/byte_tokenizer.h"

#include <CLI/CLI.hpp>

namespace colonnade::cli {

std::vector<int64_t> TextOptions::prompt_ids() const {
  check_arg(!prompt.empty(), "--prompt is empty; give at least one character");
  const at::Tensor ids = ByteTokenizer::encode(prompt);
  const auto* first = ids.const_data_ptr<int64_t>();
  return {first, first + ids.numel()};
}

void add_text_options(CLI::App& app, TextOptions& text) {
  GenerateOptions& options = text.generate;
  app.add_option("--prompt", text.prompt, "What the text begins with")
      ->required();
  app.add_option("--max-tokens", options.max_new_tokens,
                 "Tokens (bytes) to write")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--temperature", options.temperature,
                 "0 takes the likeliest token; 1 draws as the model says")
      ->check(number_from(0, 100))
      ->capture_default_str();
  app.add_option("--top-k", options.top_k,
                 "Draw from so many likeliest tokens; 0: from all")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--top-p", options.top_p,
                 "Draw from the likeliest that have this share together")
      ->check(number_from(0, 1))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of the draws")
      ->check(at_least(0))
      ->capture_default_str();
  app.add_option("--tokens", text.tokens_file,
                 "A file for each token and how far its logit was ahead");
}

TextWriter::TextWriter(const TextOptions& options)
    : prompt_(options.prompt), tokens_file_(options.tokens_file) {
  if (!tokens_file_.empty()) {
    tokens_.open(tokens_file_);
    check_arg(tokens_.is_open(), "--tokens: cannot write ", tokens_file_);
    tokens_.precision(9);
    tokens_ << "byte,margin\n";
  }
}

void TextWriter::begin() {
  print(prompt_);
}

bool TextWriter::add(const GeneratedToken& token) {
  print(text_.push(static_cast<unsigned char>(token.id)));
  if (tokens_.is_open()) {
    tokens_ << token.id << ',' << token.margin << '\n';
  }
  return interrupt() == 0;
}

int TextWriter::end() {
  print(text_.finish() + "\n");
  if (tokens_.is_open()) {
    tokens_.close();
    check<Error>(!tokens_.fail(), "--tokens: ", tokens_file_,
                 " has not taken all tokens; see whether its disk is full");
  }
  return interrupt() == 0 ? kDone : 128 + interrupt();
}

}  // namespace colonnade::cli
