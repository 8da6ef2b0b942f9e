//! tidegate-harness.
