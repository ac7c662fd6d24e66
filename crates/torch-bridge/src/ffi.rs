//! The border itself: signatures that both compilers check.

#[cxx::bridge(namespace = "torch_bridge")]
pub mod bridge {
    unsafe extern "C++" {
        include!("torch-bridge/include/bridge.h");
        include!("torch-bridge/include/group.h");

        type Group;

        fn connect_gloo(
            host: &str,
            port: u16,
            rank: usize,
            size: usize,
            serve: bool,
            prefix: &str,
            timeout_ms: u64,
        ) -> Result<UniquePtr<Group>>;
        fn joined_group(name: &str) -> Result<UniquePtr<Group>>;
        fn rank(self: &Group) -> usize;
        fn size(self: &Group) -> usize;
        fn barrier(self: &Group, timeout_ms: u64) -> Result<()>;

        /// # Safety
        /// Every address is that of a live `at::Tensor`, and the caller owns a returned one; so for all of these.
        unsafe fn all_reduce(self: &Group, tensor: usize) -> Result<()>;
        unsafe fn all_gather(self: &Group, tensor: usize) -> Result<usize>;
        unsafe fn all_gather_with_gradient(self: &Group, tensor: usize) -> Result<usize>;
        unsafe fn broadcast(self: &Group, tensors: &[usize]) -> Result<()>;
        #[allow(clippy::too_many_arguments)]
        unsafe fn batch_norm(
            self: &Group,
            input: usize,
            weight: usize,
            bias: usize,
            running_mean: usize,
            running_var: usize,
            momentum: f64,
            epsilon: f64,
            counts: bool,
        ) -> Result<usize>;

        /// The version of the headers that this was compiled with.
        fn built_for_version() -> String;

        /// What the library that was loaded says of itself, in lines.
        fn loaded_configuration() -> Result<String>;

        fn leave_at_once(code: i32);

        fn keep_freed_memory() -> bool;

        /// Whether autocast was on for the device before: what `end_autocast` is to be given.
        fn begin_autocast_bf16(cuda: bool) -> bool;
        fn end_autocast(cuda: bool, before: bool);

        fn allow_tf32(allow: bool) -> Result<()>;

        /// # Safety
        /// `tensor` is the address of a live `at::Tensor`; the caller owns the returned one.
        unsafe fn channels_last(tensor: usize) -> Result<usize>;

        /// # Safety
        /// `bytes` bytes can be read at `data`; the caller owns the returned tensor.
        unsafe fn pinned(data: usize, bytes: usize) -> Result<usize>;

        /// # Safety
        /// `hidden` is the address of a live `at::Tensor`; the caller owns the returned one.
        unsafe fn quick_gelu(hidden: usize) -> Result<usize>;

        /// # Safety
        /// Every address is that of a live `at::Tensor`.
        unsafe fn forget_gradients(tensors: &[usize]) -> Result<()>;

        /// # Safety
        /// `tensor` is the address of a live `at::Tensor`.
        unsafe fn give_zero_gradient(tensor: usize) -> Result<()>;

        fn cuda_has_bf16(device: i8) -> Result<bool>;

        fn peak_cuda_bytes(device: i8) -> Result<u64>;

        /// # Safety
        /// Every slice holds addresses of live `at::Tensor`s and all have one length.
        #[allow(clippy::too_many_arguments)]
        unsafe fn fused_adamw(
            parameters: &[usize],
            gradients: &[usize],
            first_moments: &[usize],
            second_moments: &[usize],
            steps: &[usize],
            learning_rate: f64,
            beta1: f64,
            beta2: f64,
            weight_decay: f64,
            epsilon: f64,
        ) -> Result<()>;
    }
}
