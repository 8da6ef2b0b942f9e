//! Generates the Open Inference Protocol's types and server, and ONNX's types, from `proto/`, without an external
//! `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for file in ["proto/open_inference.proto", "proto/onnx-ml.proto"] {
        println!("cargo:rerun-if-changed={file}");
        tonic_prost_build::configure()
            .bytes(".")
            // ONNX's comments hold examples that rustdoc would take for Rust.
            .disable_comments([".onnx"])
            .build_client(true)
            .build_server(true)
            .compile_fds(protox::compile([file], ["proto"])?)?;
    }
    Ok(())
}
