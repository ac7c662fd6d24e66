#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "rust/cxx.h"

namespace torch_bridge {

// One process group of c10d. Tensors cross the border as addresses of at::Tensor: tch owns them, C++ only borrows.
class Group {
 public:
  explicit Group(c10::intrusive_ptr<c10d::ProcessGroup> group) : group_(std::move(group)) {}
  size_t rank() const { return static_cast<size_t>(group_->getRank()); }
  size_t size() const { return static_cast<size_t>(group_->getSize()); }
  void all_reduce(size_t tensor) const;
  size_t all_gather(size_t tensor) const;
  size_t all_gather_with_gradient(size_t tensor) const;
  void broadcast(rust::Slice<const size_t> tensors) const;
  void barrier(uint64_t timeout_ms) const;
  size_t batch_norm(size_t input, size_t weight, size_t bias, size_t running_mean, size_t running_var, double momentum,
                    double epsilon, bool counts) const;

 private:
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

std::unique_ptr<Group> connect_gloo(rust::Str host, uint16_t port, size_t rank, size_t size, bool serve,
                                    rust::Str prefix, uint64_t timeout_ms);

// The group that PyTorch's Python part has joined under `name`, whatever it exchanges by.
std::unique_ptr<Group> joined_group(rust::Str name);

}  // namespace torch_bridge
