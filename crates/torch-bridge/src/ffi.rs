//! The border itself: signatures that both compilers check.

#[cxx::bridge(namespace = "torch_bridge")]
pub mod bridge {
    unsafe extern "C++" {
        include!("torch-bridge/include/bridge.h");

        /// Of the library that was compiled against.
        fn torch_version() -> String;

        fn leave_at_once(code: i32);

        /// # Safety
        /// `tensor` is the address of a live `at::Tensor`; the caller owns the returned one.
        unsafe fn channels_last(tensor: usize) -> Result<usize>;

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
