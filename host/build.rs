//! Generates the client (and, for tests, the server) of the Open Inference Protocol that the worker serves, without an external `protoc`.

use std::error::Error;

const FOLDER: &str = "../gpu-worker/proto";
const FILE: &str = "../gpu-worker/proto/open_inference.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FILE}");
    let descriptors = protox::compile([FILE], [FOLDER])?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors)?;
    Ok(())
}
