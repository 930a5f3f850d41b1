// colonnade/trace/detail/callable_ops.cpp
#include "colonnade/trace/detail/callable_ops.h"

#include "colonnade/core/error.h"

#include <algorithm>
#include <string_view>

namespace colonnade::trace::detail {
namespace {

/// An op without its overload, or the beginning of its name ("aten::mps_*"),
/// and what is wrong with it.
struct Refusal {
  std::string_view op;
  std::string_view reason;
};

constexpr std::string_view kTrusting =
    "takes its arguments on trust, so that wrong ones reach foreign memory";
constexpr std::string_view kPacked =
    "works on a tensor whose bytes are pointers";
constexpr std::string_view kBackend =
    "belongs to one backend, whose callers in torch check its arguments";

// Among the ops of torch 2.11 whose types a graph can hold. What begins with
// an underscore, or computes a gradient, is refused beside these.
constexpr Refusal kRefused[] = {
    {"aten::from_file", "opens a file"},
    {"aten::set_data", "changes a tensor behind the dispatcher"},
    {"aten::to_mkldnn", "makes a layout that many ops do not expect"},
    {"mkldnn::data_ptr", "gives a pointer away"},
    {"aten::fbgemm_*", kPacked},
    {"aten::quantized_gru_cell", kPacked},
    {"aten::quantized_lstm_cell", kPacked},
    {"aten::quantized_rnn_relu_cell", kPacked},
    {"aten::quantized_rnn_tanh_cell", kPacked},
    {"aten::_foreach_copy", kTrusting},
    {"aten::align_tensors", kTrusting},
    {"aten::choose_qparams_optimized", kTrusting},
    {"aten::fused_moving_avg_obs_fake_quant", kTrusting},
    {"aten::linalg_ldl_solve", kTrusting},
    {"aten::linalg_lu_solve", kTrusting},
    {"aten::lu_solve", kTrusting},
    {"aten::lu_unpack", kTrusting},
    {"aten::native_batch_norm", kTrusting},
    {"aten::native_channel_shuffle", kTrusting},
    {"aten::segment_reduce", kTrusting},
    {"aten::slow_conv*", kTrusting},
    {"mkldnn::_reorder_mkldnn_rnn_layer_weight", kTrusting},
    {"aten::batch_norm_*", kBackend},
    {"aten::cudnn_*", kBackend},
    {"aten::miopen_*", kBackend},
    {"aten::mkldnn_*", kBackend},
    {"aten::mps_*", kBackend},
};

// Those with an underscore that torch's own modules and functions call in a
// forward pass, and that check what they are given.
constexpr std::string_view kAllowed[] = {
    "aten::_assert_async",
    "aten::_assert_tensor_metadata",
    "aten::_foreach_*",
    "aten::_is_all_true",
    "aten::_is_any_true",
    "aten::_local_scalar_dense",
    "aten::_native_multi_head_attention",
    "aten::_pack_padded_sequence",
    "aten::_pad_enum",
    "aten::_pad_packed_sequence",
    "aten::_sample_dirichlet",
    "aten::_shape_as_tensor",
    "aten::_standard_gamma",
    "aten::_to_copy",
    "aten::_transformer_encoder_layer_fwd",
    "aten::_unique2",
    "aten::_unsafe_view",
    "aten::_upsample_*",
    "aten::_weight_norm",
};

bool matches(std::string_view pattern, std::string_view op) {
  return pattern.ends_with('*')
             ? op.starts_with(pattern.substr(0, pattern.size() - 1))
             : op == pattern;
}

std::string_view reason_against(std::string_view op) {
  for (const Refusal& refusal : kRefused) {
    if (matches(refusal.op, op)) {
      return refusal.reason;
    }
  }
  if (op.find("_backward") != std::string_view::npos) {
    return "computes a gradient, which no forward pass does";
  }
  const bool is_internal =
      op.starts_with("aten::_") && !op.starts_with("aten::__");
  const bool is_allowed = std::ranges::any_of(
      kAllowed, [&](std::string_view pattern) { return matches(pattern, op); });
  return is_internal && !is_allowed
             ? "is internal to torch, whose callers check its arguments"
             : "";
}

}  // namespace

const std::vector<std::string>& default_namespaces() {
  static const std::vector<std::string> kNames = {"aten", "colonnade",
                                                  "mkldnn"};
  return kNames;
}

std::string why_not_callable(const std::string& op,
                             std::span<const std::string> namespaces) {
  const std::string name = op.substr(0, op.find('.'));
  const auto is_listed = [&](const std::string& entry) {
    return std::ranges::find(namespaces, entry) != namespaces.end();
  };
  if (is_listed(name)) {
    return "";
  }
  const std::string space = name.substr(0, name.find("::"));
  if (!is_listed(space)) {
    return concat(
        "is in none of the namespaces that a graph may call; if you "
        "trust the file, add \"",
        space, "\" to LoadOptions::namespaces");
  }
  const std::string_view reason = reason_against(name);
  return reason.empty() ? ""
                        : concat(reason, "; if you trust the file, add \"",
                                 name, "\" to LoadOptions::namespaces");
}

}  // namespace colonnade::trace::detail
