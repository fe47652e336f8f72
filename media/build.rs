//! Says loudly when the H.264 codec is about to be built without its assembly: openh264 does so
//! silently where `nasm` is missing, and a 720p picture then takes three times the time; or
//! without what it has for AVX2.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=NASM");
    println!("cargo::rerun-if-env-changed=OPENH264_NO_ASM");
    println!("cargo::rerun-if-env-changed=CXXFLAGS");
    println!("cargo::rerun-if-env-changed=NASMENV");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !matches!(arch.as_str(), "x86" | "x86_64") {
        return;
    }
    if env::var_os("OPENH264_NO_ASM").is_some() {
        println!("cargo::warning=OPENH264_NO_ASM is set: H.264 will be about three times slower");
        return;
    }
    let found = Command::new(env::var_os("NASM").unwrap_or_else(|| "nasm".into()))
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!(
            "cargo::warning=nasm was not found: H.264 is built without assembly and takes three \
             times the time. Install nasm, run `cargo clean -p openh264-sys2 -p visavis-media`, \
             and build again."
        );
    }
    // `.cargo/config.toml` sets both, unless whoever builds has set them already.
    let has = |name: &str| env::var(name).is_ok_and(|flags| flags.contains("HAVE_AVX2"));
    match (has("CXXFLAGS"), has("NASMENV")) {
        (true, true) => {}
        // Its C++ half would call loops that are not there.
        (true, false) => println!(
            "cargo::error=CXXFLAGS has -DHAVE_AVX2 and NASMENV has not: add it, run `cargo clean -p openh264-sys2`, and \
             build again."
        ),
        (false, _) => println!(
            "cargo::warning=CXXFLAGS lacks -DHAVE_AVX2: H.264 takes a tenth more time than it need. Add it, run \
             `cargo clean -p openh264-sys2 -p visavis-media`, and build again."
        ),
    }
}
