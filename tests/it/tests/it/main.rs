//! The integration tests: the real `tidegate`, from outside.
#![allow(clippy::unwrap_used, clippy::panic)]

mod backup;
mod bad_input;
mod check;
mod crash;
mod dead_letters;
mod documents;
mod flow;
mod full_disk;
mod inference;
mod logs;
mod metrics;
mod movielens;
mod new;
mod records;
mod replay;
mod requests;
mod s3;
mod shutdown;
mod spin;
mod traces;
mod upload;
mod uploads;
mod versions;
mod watch;
mod workers;
