// colonnade/comm/detail/process_fates.cpp
#include "colonnade/comm/detail/process_fates.h"

#include "colonnade/core/error.h"

#include <utility>

namespace colonnade::detail {
namespace {

constexpr std::string_view kFailed = "failed: ";
constexpr char kLost[] = "lost";

std::string name_of_fate(int rank) {
  return concat("fate/", rank);
}

}  // namespace

ProcessFates::ProcessFates(std::shared_ptr<Rendezvous> rendezvous, int rank)
    : rendezvous_(std::move(rendezvous)), rank_(rank) {}

void ProcessFates::failed(std::string_view reason) noexcept {
  try {
    tell(concat(kFailed, reason));
  } catch (...) {  // no memory for the text
    tell(kFailed);
  }
}

void ProcessFates::tell(std::string_view fate) noexcept {
  if (told_.exchange(true)) {
    return;
  }
  try {
    rendezvous_->set(name_of_fate(rank_), fate);
  } catch (...) {  // the rendezvous has ended: the others see that we are gone
  }
}

std::optional<ProcessFates::Fate> ProcessFates::of(
    int rank, std::chrono::milliseconds patience) const {
  try {
    const std::string fate = rendezvous_->get(name_of_fate(rank), patience);
    return fate.starts_with(kFailed)
               ? Fate{.returned = false, .reason = fate.substr(kFailed.size())}
               : Fate{.returned = true, .reason = {}};
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void ProcessFates::tell_lost(std::string_view what) noexcept {
  try {
    rendezvous_->set(kLost, what);
  } catch (...) {  // the rendezvous has ended
  }
}

std::optional<std::string> ProcessFates::lost() const {
  try {
    return rendezvous_->get(kLost, std::chrono::milliseconds(0));
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace colonnade::detail
