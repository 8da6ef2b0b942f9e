//! tidegate-bench.

fn main() {}
