//! Generates the Open Inference Protocol's types and server from `proto/`, without an external `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/open_inference.proto");
    let descriptors = protox::compile(["proto/open_inference.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors)?;
    Ok(())
}
