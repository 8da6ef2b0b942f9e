//! Notices: what S3 tells of buckets that others write, however it gets here.
//!
//! A notice comes as S3 writes it, in the envelope of SNS, or as EventBridge writes it ([`envelope`]). Of one object they
//! come more than once and in any order: the [`Sequencer`] says which is the latest ([`order`]). Each that is news is one
//! change of the index ([`change`]), and a CloudEvent as the specification maps it ([`cloud_event`]).

mod change;
mod cloud_event;
mod envelope;
mod inbox;
mod order;
mod record;
#[cfg(test)]
mod tests;

pub use self::change::Noticed;
pub use self::envelope::{Unreadable, read};
pub use self::inbox::{Inbox, Letter};
pub use self::order::Sequencer;

/// The table of objects that are gone, each with the place of its last notice, as long as older ones may come.
pub(crate) const GONE: &str = "$notices";

/// What S3 told of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The bucket, as S3 knows it.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// What happened to it.
    pub change: Change,
    /// Its place among the notices of the object.
    pub sequencer: Sequencer,
    /// What S3 calls it, for example `ObjectCreated:Put`.
    pub name: String,
    /// The service and the region, for example `aws:s3.eu-central-1`.
    pub origin: String,
    /// The request that caused it, where it is told.
    pub request: Option<String>,
    /// When it happened, in milliseconds since the Unix epoch.
    pub time: u64,
    /// The notice as it came.
    pub data: String,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was written.
    Created {
        /// Bytes.
        size: u64,
        /// The entity tag, without quotes.
        etag: String,
        /// The version, in a bucket that has them.
        version: Option<String>,
    },
    /// It was removed, or only this version of it.
    Removed(Option<String>),
}
