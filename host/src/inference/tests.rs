//! Inference over a worker of the test's own.
