//! What an operator says of the services.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::attached::Attached;

/// Where the store keeps its things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The DynamoDB table; made where it is missing.
    pub table: String,
    /// The S3 bucket; made where it is missing.
    pub bucket: String,
    /// What the names of SQS queues begin with.
    pub queues: String,
    /// The one queue that tells of the events of all functions, of which a Lambda function is invoked; without it each
    /// version of a function has a queue of its own, which hosts ask.
    pub intake: Option<String>,
    /// The region; where none is given, the environment or the profile tells it.
    pub region: Option<String>,
    /// Other services than Amazon's.
    pub endpoints: Endpoints,
    /// How long an event stays away from the other hosts when its own host has gone silent.
    pub visibility: Duration,
    /// How long a queue of SQS that nobody takes from is kept; then it is removed, if it is empty.
    pub keep_queues: Duration,
    /// Buckets of others, by their names here.
    pub attached: BTreeMap<String, Attached>,
}

impl Settings {
    /// Defaults, with one name for the table, the bucket and the queues.
    pub fn new(name: &str) -> Self {
        Self {
            table: name.to_owned(),
            bucket: name.to_owned(),
            queues: format!("{name}-"),
            intake: None,
            region: None,
            endpoints: Endpoints::default(),
            visibility: Duration::from_secs(30),
            keep_queues: Duration::from_secs(3600),
            attached: BTreeMap::new(),
        }
    }
}

/// Addresses of services that speak as Amazon's do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Instead of DynamoDB.
    pub dynamodb: Option<String>,
    /// Instead of S3.
    pub s3: Option<String>,
    /// Instead of SQS.
    pub sqs: Option<String>,
}
