//! feed-ranking-rank.
