//! tidegate-demo.

fn main() {}
