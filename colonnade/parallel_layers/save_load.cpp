// colonnade/parallel_layers/save_load.cpp
#include "colonnade/parallel_layers/save_load.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/load_checkpoint.h"
#include "colonnade/checkpoint/detail/loader.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/comm/call_site.h"

#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace fs = std::filesystem;
using detail::CheckpointRanks;
using detail::Wanted;

void load_unsharded(const fs::path& load_dir, torch::nn::Module& model) {
  const CheckpointRanks ranks = CheckpointRanks::current("load");
  detail::TensorStore store;
  std::vector<Wanted> wanted;
  std::vector<detail::Filling> fillings;
  detail::together(ranks.world, [&] {
    store = detail::open_unsharded(load_dir);
    fillings = detail::match_model(ranks, detail::model_tensors(model), store,
                                   "", "load: " + load_dir.string(), wanted);
  });
  detail::read_wanted(ranks, wanted);
  detail::together(ranks.world, [&] { detail::check_ties(fillings, wanted); });
  detail::fill(fillings, wanted);
}

}  // namespace

void save(const StateDict& state_dict, const fs::path& save_dir) {
  const CallSiteScope site(CallSite("save"));
  detail::save_checkpoint(state_dict, save_dir);
}

StateDict load(const fs::path& load_dir) {
  const CallSiteScope site(CallSite("load"));
  return detail::load_checkpoint(load_dir);
}

StateDict load(const fs::path& load_dir, torch::nn::Module& model,
               const std::string& model_key, bool sharded) {
  const CallSiteScope site(CallSite("load"));
  if (sharded) {
    return detail::load_checkpoint(load_dir,
                                   {.model = &model, .model_key = model_key});
  }
  load_unsharded(load_dir, model);
  return {};
}

void load_model(const fs::path& load_dir, torch::nn::Module& model,
                const std::string& model_key) {
  detail::load_checkpoint(
      load_dir, {.model = &model, .model_key = model_key, .rest = false});
}

StateDict load_values(const fs::path& load_dir) {
  return detail::plain_values(load_dir, detail::read_manifest(load_dir));
}

}  // namespace colonnade::parallel_layers
