#include "torch-bridge/include/group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

// PyTorch ships ProcessGroupGloo.hpp without Gloo's own headers; gloo-stubs/ declares the names that it needs. This is the size that
// libtorch_cpu.so 2.11 itself allocates (ProcessGroupGloo::split).
static_assert(sizeof(c10d::ProcessGroupGloo) == 488, "not the layout of PyTorch 2.11");

namespace torch_bridge {

using Handle = c10::intrusive_ptr<c10d::ProcessGroup>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

static at::Tensor& borrowed(size_t address) { return *reinterpret_cast<at::Tensor*>(address); }
static size_t owned(at::Tensor tensor) { return reinterpret_cast<size_t>(new at::Tensor(std::move(tensor))); }

std::unique_ptr<Group> connect_gloo(rust::Str host, uint16_t port, size_t rank, size_t size, bool serve,
                                    rust::Str prefix, uint64_t timeout_ms) {
  const auto timeout = std::chrono::milliseconds(timeout_ms);
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = serve;
  options.numWorkers = size;
  options.multiTenant = serve;
  options.timeout = timeout;
  c10::intrusive_ptr<c10d::Store> tcp = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
  c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), tcp);
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, static_cast<int>(rank), static_cast<int>(size));
  auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>("cpu", store), static_cast<int>(rank), static_cast<int>(size),
      c10d::ProcessGroupGloo::Options::create_default(timeout));
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  return std::make_unique<Group>(std::move(group));
}

std::unique_ptr<Group> joined_group(rust::Str name) {
  return std::make_unique<Group>(c10d::resolve_process_group(std::string(name)));
}

// The tensor as the group can exchange it: itself where one of the group's backends knows its device (NCCL a GPU), a copy in the host's memory
// else, which Gloo exchanges.
static at::Tensor exchanged(const Handle& group, const at::Tensor& tensor) {
  for (const c10::Device& device : group->getDeviceTypes()) {
    if (device.type() == tensor.device().type()) return tensor;
  }
  return tensor.cpu();
}

static at::Tensor gathered(const Handle& group, const at::Tensor& local) {
  at::Tensor input = exchanged(group, local.contiguous());
  auto shape = input.sizes().vec();
  shape.at(0) *= group->getSize();
  at::Tensor output = at::empty(shape, input.options().requires_grad(false));
  group->_allgather_base(output, input)->wait();
  return output.to(local.device());
}

static void reduce(const Handle& group, at::Tensor tensor) {
  std::vector<at::Tensor> one{exchanged(group, tensor)};
  group->allreduce(one)->wait();
  if (!one.at(0).is_same(tensor)) tensor.copy_(one.at(0));
}

void Group::all_reduce(size_t tensor) const {
  c10::NoGradGuard no_grad;
  reduce(group_, borrowed(tensor));
}

size_t Group::all_gather(size_t tensor) const {
  c10::NoGradGuard no_grad;
  return owned(gathered(group_, borrowed(tensor).detach()));
}

// PyTorch has `_c10d_functional_autograd::all_gather_into_tensor`, but its backward refuses a gradient that is not contiguous (that of
// `sum`, for one) and finds the group by name; this one takes any.
struct Gather : torch::autograd::Function<Gather> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& local, const Handle& group) {
    context->saved_data["group"] = group;
    return gathered(group, local);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto group = context->saved_data["group"].toCustomClass<c10d::ProcessGroup>();
    at::Tensor input = exchanged(group, gradients.at(0).contiguous());
    auto shape = input.sizes().vec();
    shape.at(0) /= group->getSize();
    at::Tensor output = at::empty(shape, input.options());
    group->_reduce_scatter_base(output, input)->wait();
    return {output.to(gradients.at(0).device()), at::Tensor()};
  }
};

size_t Group::all_gather_with_gradient(size_t tensor) const { return owned(Gather::apply(borrowed(tensor), group_)); }

void Group::broadcast(rust::Slice<const size_t> tensors) const {
  c10::NoGradGuard no_grad;
  std::vector<std::vector<at::Tensor>> sent;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (size_t address : tensors) {
    sent.push_back({exchanged(group_, borrowed(address).detach())});
    works.push_back(group_->broadcast(sent.back(), c10d::BroadcastOptions()));
  }
  for (auto& work : works) work->wait();
  for (size_t at = 0; at < tensors.size(); ++at) {
    at::Tensor& tensor = borrowed(tensors[at]);
    if (sent.at(at).at(0).device() != tensor.device()) tensor.detach().copy_(sent.at(at).at(0));
  }
}

void Group::barrier(uint64_t timeout_ms) const {
  c10d::BarrierOptions options;
  options.timeout = std::chrono::milliseconds(timeout_ms);
  // The processors wait for each other, whatever the GPUs exchange by: this wait may be far longer than that of an exchange.
  options.device = at::Device(at::kCPU);
  group_->barrier(options)->wait();
}

// The part of batch norm that has a gradient, with the mean and the biased variance `[channels]` of the whole batch given. `total` counts
// the values of a channel over all ranks. Backward is PyTorch's for fixed statistics, and what the statistics themselves depend on:
// dx = w s (dy - sum(dy) / total - xhat sum(dy xhat) / total), both sums over all ranks.
struct WholeBatchNorm : torch::autograd::Function<WholeBatchNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& mean, const at::Tensor& var,
                            const at::Tensor& total, double epsilon, bool counts, const Handle& group) {
    context->save_for_backward({input, weight, mean, var, total});
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["counts"] = counts;
    context->saved_data["group"] = group;
    return std::get<0>(at::native_batch_norm(input, weight, bias, mean, var, /*training=*/false, 0.0, epsilon));
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved.at(0), &weight = saved.at(1), &mean = saved.at(2), &var = saved.at(3),
                     &total = saved.at(4);
    const double epsilon = context->saved_data["epsilon"].toDouble();
    auto group = context->saved_data["group"].toCustomClass<c10d::ProcessGroup>();
    auto [d_input, d_weight, d_bias] = at::native_batch_norm_backward(
        gradients.at(0), input, weight, mean, var, std::nullopt, std::nullopt, /*train=*/false, epsilon,
        std::array<bool, 3>{true, true, true});
    at::Tensor sums = at::cat({d_weight, d_bias});
    reduce(group, sums);
    const int64_t channels = weight.size(0);
    at::Tensor inverse = (var + epsilon).rsqrt(), factor = weight * inverse / -total.to(weight.scalar_type());
    at::Tensor slope = factor * inverse * sums.narrow(0, 0, channels);
    at::Tensor offset = factor * sums.narrow(0, channels, channels);
    std::vector<int64_t> along(input.dim(), 1);
    along.at(1) = channels;
    // The mean goes first: where it is large, little would be left of the difference.
    d_input.addcmul_(input - mean.view(along), slope.view(along)).add_(offset.view(along));
    if (!context->saved_data["counts"].toBool()) d_input.zero_();
    at::Tensor none;
    return {d_input, d_weight, d_bias, none, none, none, none, none, none};
  }
};

size_t Group::batch_norm(size_t input_address, size_t weight, size_t bias, size_t running_mean, size_t running_var,
                         double momentum, double epsilon, bool counts) const {
  const at::Tensor& input = borrowed(input_address);
  // The count of all stays where the statistics are: a look at it would make the processor wait for a GPU at every norm.
  at::Tensor mean, var, total;
  {
    c10::NoGradGuard no_grad;
    at::Tensor local = input.detach();
    const int64_t channels = local.size(1);
    auto [own_mean, own_var] = at::batch_norm_update_stats(local, std::nullopt, std::nullopt, 0.0);
    const double count = counts ? static_cast<double>(local.numel()) / static_cast<double>(channels) : 0.0;
    at::Tensor row = at::cat({own_mean, own_var, at::full({1}, count, own_mean.options())}).unsqueeze(0);
    // Sums of a few numbers: in double, so that the order of ranks does not show.
    at::Tensor all = gathered(group_, row).to(at::kDouble);
    at::Tensor means = all.narrow(1, 0, channels), vars = all.narrow(1, channels, channels),
               weights = all.narrow(1, 2 * channels, 1);
    total = weights.sum();
    TORCH_CHECK(!total.is_cpu() || total.item<double>() > 0, "batch norm over a batch of nothing");
    at::Tensor whole_mean = (means * weights).sum(0) / total;
    at::Tensor whole_var = ((vars + (means - whole_mean).square()) * weights).sum(0) / total;
    mean = whole_mean.to(local.scalar_type());
    var = whole_var.to(local.scalar_type());
    borrowed(running_mean).mul_(1 - momentum).add_(mean, momentum);
    at::Tensor unbiased = total / (total - 1).clamp_min(1);
    borrowed(running_var).mul_(1 - momentum).add_(var * unbiased.to(var.scalar_type()), momentum);
  }
  return owned(WholeBatchNorm::apply(input, borrowed(weight), borrowed(bias), mean, var, total, epsilon, counts, group_));
}

}  // namespace torch_bridge
