//! feed-ranking-train.
