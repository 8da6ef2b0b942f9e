//! feed-ranking-evaluate.
