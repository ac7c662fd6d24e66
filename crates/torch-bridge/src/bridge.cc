#include "torch-bridge/include/bridge.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <optional>
#include <vector>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace torch_bridge {

static at::Tensor& borrowed(size_t address) { return *reinterpret_cast<at::Tensor*>(address); }

static std::vector<at::Tensor> borrowed(rust::Slice<const size_t> addresses) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(addresses.size());
  for (size_t address : addresses) tensors.push_back(borrowed(address));
  return tensors;
}

rust::String built_for_version() { return TORCH_VERSION; }

rust::String loaded_configuration() { return rust::String::lossy(at::show_config()); }

static at::DeviceType device_type(bool cuda) { return cuda ? at::kCUDA : at::kCPU; }

bool begin_autocast_bf16(bool cuda) {
  const bool before = at::autocast::is_autocast_enabled(device_type(cuda));
  at::autocast::set_autocast_dtype(device_type(cuda), at::kBFloat16);
  at::autocast::set_autocast_enabled(device_type(cuda), true);
  at::autocast::increment_nesting();
  return before;
}

void end_autocast(bool cuda, bool before) {
  // The cache holds weights as they were cast: they change with the next step.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_type(cuda), before);
}

void allow_tf32(bool allow) {
  at::globalContext().setAllowTF32CuDNN(allow);
  at::globalContext().setFloat32MatmulPrecision(allow ? "high" : "highest");
}

void leave_at_once(int32_t code) { std::_Exit(code); }

bool keep_freed_memory() {
#ifdef __GLIBC__
  // -1 is "never".
  return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1;
#else
  return false;
#endif
}

bool cuda_has_bf16(int8_t device) {
  c10::DeviceGuard guard(c10::Device(c10::kCUDA, device));
  // cuDNN's convolutions ask for the same: compute capability 8.0, from which on a GPU has instructions for it.
  return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8();
}

// hidden * sigmoid(1.702 hidden). Autograd would keep the sigmoid beside `hidden`; here it is computed once more on the way back. Operations and
// their order are autograd's, so that values and gradients have the same bits; those that give these bits in place, too, are in place. (A product
// of bfloat16 with a number is rounded otherwise in place.)
struct QuickGelu : torch::autograd::Function<QuickGelu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden) {
    context->save_for_backward({hidden});
    return (hidden * 1.702).sigmoid_().mul_(hidden);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const at::Tensor hidden = context->get_saved_variables().at(0), &gradient = gradients.at(0);
    at::Tensor gate = (hidden * 1.702).sigmoid_(), inner = gradient * hidden;
    inner = at::sigmoid_backward_out(inner, inner, gate) * 1.702;
    return {gate.mul_(gradient).add_(inner)};
  }
};

size_t quick_gelu(size_t hidden) { return reinterpret_cast<size_t>(new at::Tensor(QuickGelu::apply(borrowed(hidden)))); }

size_t channels_last(size_t tensor) {
  auto result = borrowed(tensor).contiguous(at::MemoryFormat::ChannelsLast);
  return reinterpret_cast<size_t>(new at::Tensor(std::move(result)));
}

size_t pinned(size_t data, size_t bytes) {
  auto view = at::from_blob(reinterpret_cast<void*>(data), {static_cast<int64_t>(bytes)}, at::kByte);
  return reinterpret_cast<size_t>(new at::Tensor(view.pin_memory()));
}

uint64_t peak_cuda_bytes(int8_t device) {
  const auto stats = c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(device);
  return static_cast<uint64_t>(stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak);
}

void forget_gradients(rust::Slice<const size_t> tensors) {
  for (size_t tensor : tensors) borrowed(tensor).mutable_grad().reset();
}

void give_zero_gradient(size_t tensor) {
  c10::NoGradGuard no_grad;
  borrowed(tensor).mutable_grad() = at::zeros_like(borrowed(tensor));
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
