//! feed-ranking-validate.
