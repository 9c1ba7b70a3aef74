//! One name for "the system calls of Linux are used": `cfg(linux_calls)`.
#![allow(clippy::print_stdout, reason = "that is how a build script talks to cargo")]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(linux_calls)");
    let is_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    let is_portable = env::var_os("CARGO_FEATURE_PORTABLE").is_some();
    if is_linux && !is_portable {
        println!("cargo::rustc-cfg=linux_calls");
    }
}
