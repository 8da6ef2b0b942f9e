//! Machine code for other machines than the one that compiles it.

use wasmtime::{Config, Engine};

use super::ComponentError;
use super::candidate::as_released;
use super::engine::{Pool, config};

/// What every x86-64 processor of the last ten years has: the level x86-64-v3. What this machine has beyond it would be
/// refused elsewhere.
const X86_64_V3: [&str; 11] = [
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_avx",
    "has_avx2",
    "has_bmi1",
    "has_bmi2",
    "has_fma",
    "has_lzcnt",
];

/// Compiles a component for a host on another machine of the same architecture, with Linux.
pub fn portable_code(bytes: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let invalid = |error: wasmtime::Error| ComponentError::Invalid(format!("{error:#}"));
    let engine = Engine::new(&portable().map_err(invalid)?).map_err(invalid)?;
    engine.precompile_component(&as_released(bytes)).map_err(invalid)
}

/// The engine of a host, but for the processor.
fn portable() -> wasmtime::Result<Config> {
    let mut config = config(Pool {
        instances: 1,
        ..Pool::default()
    });
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    if cfg!(target_arch = "x86_64") {
        for feature in X86_64_V3 {
            // SAFETY: it only says which instructions may be used; the engine that loads the code checks that its
            // processor has them.
            #[allow(unsafe_code)]
            unsafe {
                config.cranelift_flag_enable(feature);
            }
        }
    }
    Ok(config)
}
