// cli/validators.h
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace colonnade::cli {

// Say what an option takes, without the option's name, which CLI11 puts in
// front.
CLI::Validator at_least(int64_t least);
CLI::Validator positive_number();
CLI::Validator number_from(double least, double most);
CLI::Validator one_of(std::vector<std::string> names);

}  // namespace colonnade::cli
