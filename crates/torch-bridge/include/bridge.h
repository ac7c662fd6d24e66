#pragma once
#include <cstddef>
#include <cstdint>
#include "rust/cxx.h"

namespace torch_bridge {

// Of libtorch's headers that this was compiled with.
rust::String built_for_version();
// What the libtorch that was loaded says of itself.
rust::String loaded_configuration();
[[noreturn]] void leave_at_once(int32_t code);
// Whether the C library could be told.
bool keep_freed_memory();
// Whether autocast was on for the device before: what end_autocast is to be given.
bool begin_autocast_bf16(bool cuda);
void end_autocast(bool cuda, bool before);
void allow_tf32(bool allow);
// Tensors cross the border as addresses of at::Tensor: tch owns them, C++ only borrows.
size_t channels_last(size_t tensor);
// hidden * sigmoid(1.702 hidden), of which only `hidden` is kept for the way back.
size_t quick_gelu(size_t hidden);
// Whether a CUDA device multiplies bfloat16 in instructions of its own.
bool cuda_has_bf16(int8_t device);
// A copy in pinned memory of so many bytes at the address `data`, as bytes.
size_t pinned(size_t data, size_t bytes);
// The most bytes that PyTorch's allocator has given out at a time on a CUDA device.
uint64_t peak_cuda_bytes(int8_t device);
void forget_gradients(rust::Slice<const size_t> tensors);
void give_zero_gradient(size_t tensor);
void fused_adamw(rust::Slice<const size_t> parameters, rust::Slice<const size_t> gradients,
                 rust::Slice<const size_t> first_moments, rust::Slice<const size_t> second_moments,
                 rust::Slice<const size_t> steps, double learning_rate, double beta1, double beta2, double weight_decay,
                 double epsilon);

}  // namespace torch_bridge
