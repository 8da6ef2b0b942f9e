//! feed-ranking-generate.
