//! tidegate-runtime.
