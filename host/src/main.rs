//! tidegate.

fn main() {}
