//! feed-ranking-features.
