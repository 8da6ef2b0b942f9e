//! tidegate-worker.

fn main() {}
