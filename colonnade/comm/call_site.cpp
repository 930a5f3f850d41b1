#include "colonnade/comm/call_site.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace colonnade {
namespace {

constexpr CallSite kNowhere;

thread_local const CallSite* current_site = &kNowhere;

}  // namespace

CallSite::CallSite(std::string_view text) noexcept {
  constexpr std::string_view kCut = "...";
  constexpr size_t kMax = sizeof(text_) - 1;
  if (text.size() <= kMax) {
    text.copy(text_, text.size());
    return;
  }
  kCut.copy(text_, kCut.size());
  text.copy(text_ + kCut.size(), kMax - kCut.size(),
            text.size() - (kMax - kCut.size()));
}

CallSite CallSite::in_backward() const {
  CallSite site = *this;
  site.backward_ = true;
  return site;
}

const CallSite& CallSite::current() {
  return *current_site;
}

CallSiteScope::CallSiteScope(const CallSite& site) noexcept
    : site_(site), previous_(std::exchange(current_site, &site_)) {}

CallSiteScope::~CallSiteScope() {
  current_site = previous_;
}

}  // namespace colonnade
