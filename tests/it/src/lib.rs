//! tidegate-it.
