//! feed-ranking-ingest.
