//! Fuzzes `tidegate_fuzz::manifest`; started by `cargo xtask fuzz manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::manifest(data));
