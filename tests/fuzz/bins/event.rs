//! Fuzzes `tidegate_fuzz::event`; started by `cargo xtask fuzz event`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::event(data));
