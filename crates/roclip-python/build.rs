//! Installed, the package lies beside PyTorch's: `site-packages/roclip/_native.abi3.so` finds `site-packages/torch/lib`.

fn main() {
    println!("cargo::rustc-link-arg-cdylib=-Wl,-rpath,$ORIGIN/../torch/lib");
    println!("cargo::rerun-if-changed=build.rs");
}
