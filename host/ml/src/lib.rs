//! tidegate-ml.
