//! Compiles the proto with protox, which needs no protoc, and sets the commit for `GetServiceInfo` and `--version`.

use protox::prost::Message as _;
use std::{env, fs, path::PathBuf, process::Command};

const PROTO: &str = "proto/registrar/v1/registrar.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("registrar.fds"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::api::codec::MessageCodec")
        .compile_fds_with_config(descriptors, config)?;

    println!("cargo:rerun-if-env-changed=REGISTRAR_COMMIT");
    let commit = env::var("REGISTRAR_COMMIT").ok().or_else(release_commit).unwrap_or_default();
    println!("cargo:rustc-env=REGISTRAR_COMMIT={commit}");
    // The id by which the symbols of a stripped program are found.
    if env::var("CARGO_CFG_TARGET_OS")? == "linux" {
        println!("cargo:rustc-link-arg-bins=-Wl,--build-id");
    }
    let built_from = if commit.is_empty() { "commit unknown".to_owned() } else { format!("commit {commit}") };
    let signers = if env::var_os("CARGO_FEATURE_AWS_KMS").is_some() { ", with aws-kms" } else { "" };
    println!("cargo:rustc-env=REGISTRAR_VERSION={} ({built_from}{signers})", env::var("CARGO_PKG_VERSION")?);
    Ok(())
}

/// `None` in a debug build, which would be rebuilt at each commit otherwise.
fn release_commit() -> Option<String> {
    if env::var("PROFILE").ok()? != "release" {
        return None;
    }
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
