//! Fuzzes `tidegate_fuzz::s3`; started by `cargo xtask fuzz s3`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::s3(data));
