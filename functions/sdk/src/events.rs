//! The event that woke the function, and the events it emits.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bindings::tidegate::function::events;
use crate::{Error, Event, Failure};

pub use events::Outgoing;

const JSON: &str = "application/json";

impl Event {
    /// The event's data as JSON. What does not fit is rejected: another try would find the same data.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.data).map_err(|error| {
            Failure::reject(format!(
                "the data of event `{}` is not what `{}` holds: {error}",
                self.id, self.kind
            ))
        })
    }
}

/// The data of `tidegate.object.created`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectCreated {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// The version's entity tag.
    #[serde(default)]
    pub etag: String,
    /// The media type, where the writer gave one.
    #[serde(default)]
    pub content_type: Option<String>,
}

/// Emits an event whose data is `data` as JSON when the invocation commits; returns the id it will carry.
pub fn emit(kind: &str, data: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    send(kind, None, None, data)
}

/// As [`emit`], with a subject.
pub fn emit_about(kind: &str, subject: &str, data: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    send(kind, Some(subject), None, data)
}

/// As [`emit`], held back for `delay_ms` milliseconds.
pub fn emit_later(kind: &str, delay_ms: u64, data: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    send(kind, None, Some(delay_ms), data)
}

/// Emits an event with data of any media type.
pub fn emit_raw(event: &Outgoing) -> Result<String, Error> {
    events::emit(event)
}

/// An event whose data is `data` as JSON, for a [`join`].
pub fn outgoing(kind: &str, data: &(impl Serialize + ?Sized)) -> Result<Outgoing, Failure> {
    of_json(kind, None, None, data)
}

/// Emits up to 10,000 parts, and `then` once every subscriber of every part has handled it; returns the id that `then`
/// will carry.
///
/// ```ignore
/// let parts = shards.iter().map(|shard| events::outgoing("ShardReady", shard));
/// let parts = parts.collect::<Result<Vec<_>, _>>()?;
/// events::join(&parts, &events::outgoing("AllReady", &summary)?)?;
/// ```
///
/// What handles a part may add more: [`emit_part`], and jobs with [`Job::part`](crate::jobs::Job::part).
pub fn join(parts: &[Outgoing], then: &Outgoing) -> Result<String, Failure> {
    Ok(events::join(parts, then)?)
}

/// As [`emit`], as one more part of the join that the handled event is a part of.
pub fn emit_part(kind: &str, data: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    Ok(events::emit_part(&outgoing(kind, data)?)?)
}

fn send(
    kind: &str,
    subject: Option<&str>,
    delay_ms: Option<u64>,
    data: &(impl Serialize + ?Sized),
) -> Result<String, Failure> {
    Ok(events::emit(&of_json(kind, subject, delay_ms, data)?)?)
}

fn of_json(
    kind: &str,
    subject: Option<&str>,
    delay_ms: Option<u64>,
    data: &(impl Serialize + ?Sized),
) -> Result<Outgoing, Failure> {
    Ok(Outgoing {
        kind: kind.to_owned(),
        subject: subject.map(str::to_owned),
        content_type: Some(JSON.to_owned()),
        data: serde_json::to_vec(data)?,
        delay_ms,
    })
}
