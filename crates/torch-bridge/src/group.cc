#include "torch-bridge/include/group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
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

// Gloo exchanges what lies in the host's memory; a tensor of a GPU goes there and back. `cpu` gives a tensor of the host itself.
static at::Tensor gathered(const Handle& group, const at::Tensor& local) {
  at::Tensor input = local.contiguous().cpu();
  auto shape = input.sizes().vec();
  shape.at(0) *= group->getSize();
  at::Tensor output = at::empty(shape, input.options().requires_grad(false));
  group->_allgather_base(output, input)->wait();
  return output.to(local.device());
}

static void reduce(const Handle& group, at::Tensor tensor) {
  std::vector<at::Tensor> one{tensor.cpu()};
  group->allreduce(one)->wait();
  if (!tensor.is_cpu()) tensor.copy_(one.at(0));
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
    at::Tensor input = gradients.at(0).contiguous().cpu();
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
  std::vector<std::vector<at::Tensor>> hosts;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (size_t address : tensors) {
    hosts.push_back({borrowed(address).detach().cpu()});
    works.push_back(group_->broadcast(hosts.back(), c10d::BroadcastOptions()));
  }
  for (auto& work : works) work->wait();
  for (size_t at = 0; at < tensors.size(); ++at) {
    at::Tensor& tensor = borrowed(tensors[at]);
    if (!tensor.is_cpu()) tensor.detach().copy_(hosts.at(at).at(0));
  }
}

void Group::barrier(uint64_t timeout_ms) const {
  c10d::BarrierOptions options;
  options.timeout = std::chrono::milliseconds(timeout_ms);
  group_->barrier(options)->wait();
}

// The part of batch norm that has a gradient, with the mean and the biased variance `[channels]` of the whole batch given. `total` counts
// the values of a channel over all ranks. Backward is PyTorch's for fixed statistics, and what the statistics themselves depend on:
// dx = w s (dy - sum(dy) / total - xhat sum(dy xhat) / total), both sums over all ranks.
struct WholeBatchNorm : torch::autograd::Function<WholeBatchNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& mean, const at::Tensor& var, double total,
                            double epsilon, bool counts, const Handle& group) {
    context->save_for_backward({input, weight, mean, var});
    context->saved_data["total"] = total;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["counts"] = counts;
    context->saved_data["group"] = group;
    return std::get<0>(at::native_batch_norm(input, weight, bias, mean, var, /*training=*/false, 0.0, epsilon));
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &input = saved.at(0), &weight = saved.at(1), &mean = saved.at(2), &var = saved.at(3);
    const double total = context->saved_data["total"].toDouble(), epsilon = context->saved_data["epsilon"].toDouble();
    auto group = context->saved_data["group"].toCustomClass<c10d::ProcessGroup>();
    auto [d_input, d_weight, d_bias] = at::native_batch_norm_backward(
        gradients.at(0), input, weight, mean, var, std::nullopt, std::nullopt, /*train=*/false, epsilon,
        std::array<bool, 3>{true, true, true});
    at::Tensor sums = at::cat({d_weight, d_bias});
    reduce(group, sums);
    const int64_t channels = weight.size(0);
    at::Tensor inverse = (var + epsilon).rsqrt(), factor = weight * inverse / -total;
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
  at::Tensor mean, var;
  double total = 0;
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
    total = weights.sum().item<double>();
    TORCH_CHECK(total > 0, "batch norm over a batch of nothing");
    at::Tensor whole_mean = (means * weights).sum(0) / total;
    at::Tensor whole_var = ((vars + (means - whole_mean).square()) * weights).sum(0) / total;
    mean = whole_mean.to(local.scalar_type());
    var = whole_var.to(local.scalar_type());
    borrowed(running_mean).mul_(1 - momentum).add_(mean, momentum);
    const double unbiased = total > 1 ? total / (total - 1) : 1.0;
    borrowed(running_var).mul_(1 - momentum).add_(var, momentum * unbiased);
  }
  return owned(WholeBatchNorm::apply(input, borrowed(weight), borrowed(bias), mean, var, total, epsilon, counts, group_));
}

}  // namespace torch_bridge
