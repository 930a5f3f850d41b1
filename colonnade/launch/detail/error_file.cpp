// colonnade/launch/detail/error_file.cpp
#include "colonnade/launch/detail/error_file.h"

#include <nlohmann/json.hpp>

#include <ctime>
#include <fstream>

namespace colonnade::detail {

void write_error_file(const std::string& file, std::string_view text) noexcept {
  if (file.empty()) {
    return;
  }
  try {
    const nlohmann::json json = {
        {"message",
         {{"message", text},
          {"errorCode", 1},
          {"extraInfo", {{"timestamp", std::to_string(std::time(nullptr))}}}}}};
    std::ofstream(file) << json.dump(-1, ' ', false,
                                     nlohmann::json::error_handler_t::replace);
  } catch (...) {  // torchrun then says that there was no error file
  }
}

}  // namespace colonnade::detail
