#include "torch-bridge/include/bridge.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <optional>
#include <vector>

namespace torch_bridge {

static at::Tensor& borrowed(size_t address) { return *reinterpret_cast<at::Tensor*>(address); }

static std::vector<at::Tensor> borrowed(rust::Slice<const size_t> addresses) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(addresses.size());
  for (size_t address : addresses) tensors.push_back(borrowed(address));
  return tensors;
}

rust::String torch_version() { return TORCH_VERSION; }

void leave_at_once(int32_t code) { std::_Exit(code); }

size_t channels_last(size_t tensor) {
  auto result = borrowed(tensor).contiguous(at::MemoryFormat::ChannelsLast);
  return reinterpret_cast<size_t>(new at::Tensor(std::move(result)));
}

void fused_adamw(rust::Slice<const size_t> parameters, rust::Slice<const size_t> gradients,
                 rust::Slice<const size_t> first_moments, rust::Slice<const size_t> second_moments,
                 rust::Slice<const size_t> steps, double learning_rate, double beta1, double beta2, double weight_decay,
                 double epsilon) {
  c10::NoGradGuard no_grad;
  auto p = borrowed(parameters);
  auto g = borrowed(gradients);
  auto m = borrowed(first_moments);
  auto v = borrowed(second_moments);
  auto s = borrowed(steps);
  at::_fused_adamw_(p, g, m, v, {}, s, learning_rate, beta1, beta2, weight_decay, epsilon, /*amsgrad=*/false,
                    /*maximize=*/false, std::nullopt, std::nullopt);
}

}  // namespace torch_bridge
