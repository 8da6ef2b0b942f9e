//! Fuzzes `tidegate_fuzz::component`; started by `cargo xtask fuzz component`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::component(data));
