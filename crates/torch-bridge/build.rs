//! Compiles the C++ half against the libtorch that `tch` links (`LIBTORCH`, set by `.cargo/config.toml`).

use std::path::PathBuf;

fn main() -> Result<(), String> {
    let libtorch = std::env::var_os("LIBTORCH")
        .map(PathBuf::from)
        .ok_or("LIBTORCH is not set: build from inside the repository")?;
    let include = libtorch.join("include");
    if !include.is_dir() {
        return Err(format!("no libtorch at {}: run `make libtorch` first", libtorch.display()));
    }
    cxx_build::bridge("src/ffi.rs")
        .file("src/bridge.cc")
        .file("src/group.cc")
        .std("c++17")
        .define("USE_C10D_GLOO", None)
        .include("gloo-stubs")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag("-isystem")
        .flag(include.display().to_string())
        // Nothing in it is hot, and these headers take long to compile.
        .opt_level(1)
        .compile("torch_bridge");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
    for file in ["src/ffi.rs", "src/bridge.cc", "src/group.cc", "include", "gloo-stubs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}
