//! feed-ranking.
