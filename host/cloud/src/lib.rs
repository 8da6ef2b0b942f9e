//! The store of many hosts: state in one DynamoDB table, objects in S3, queues in SQS.
//!
//! A commit is one transaction ([`commit`]) with a row of the outbox, and what the row tells is done after it
//! ([`after`]): messages are sent, large units are carried on, counts that are zero are looked at. What a dead host
//! left undone, the [`sweep`] of another one does. A [`backup`] reads all of it while its commits are on [`hold`]. Buckets of others are [`attached`]: [`notices`] keep the index of them.
//! `docs/cloud.md` has the keys of the table and the life of a unit.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod after;
mod attached;
mod backup;
mod blobs;
mod bucket;
mod calls;
mod clients;
mod commit;
mod declared;
mod depot;
mod failure;
mod hold;
mod items;
mod json;
mod keys;
pub mod notices;
mod objects;
mod opening;
mod queue;
mod refill;
mod settings;
mod stamps;
mod state;
mod store;
mod sweep;
mod values;

pub use attached::Attached;
pub use backup::LAYOUT;
pub use calls::{Call, Calls};
pub use depot::Buckets;
pub use opening::OpenError;
pub use queue::Handed;
pub use refill::refill;
pub use settings::{Endpoints, Settings};
pub use store::Cloud;
