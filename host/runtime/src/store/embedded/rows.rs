//! Keys and values of the keyspaces, and their bounds.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::store::{Group, ObjectMeta, Order, StoreError, Versioned};

/// The longest name of a table, bucket or queue, in bytes.
const MAX_NAME: usize = 1024;
/// The longest key, in bytes. The database takes 65,535 for name and key together.
const MAX_KEY: usize = 32 * 1024;
/// Bytes of a counter in keys and values.
const COUNTER: usize = 8;

/// The key of an entry of a table or bucket: the name, a zero byte, the entry's key.
pub(super) fn entry_key(name: &str, key: &str) -> Result<Vec<u8>, StoreError> {
    check_name(name)?;
    if key.len() > MAX_KEY {
        return Err(StoreError(format!(
            "a key of {} bytes, at most {MAX_KEY} are allowed",
            key.len()
        )));
    }
    Ok([name.as_bytes(), &[0], key.as_bytes()].concat())
}

/// Refuses names that would not keep tables, buckets or queues apart.
pub(super) fn check_name(name: &str) -> Result<(), StoreError> {
    if name.len() > MAX_NAME {
        return Err(StoreError(format!(
            "a name of {} bytes, at most {MAX_NAME} are allowed",
            name.len()
        )));
    }
    if name.contains('\0') {
        return Err(StoreError(format!(
            "the name `{}` has a zero byte, none is allowed",
            name.escape_debug()
        )));
    }
    Ok(())
}

/// The entry's own key within its table or bucket.
pub(super) fn key_within(name: &str, row: &[u8]) -> Result<String, StoreError> {
    let key = row.get(name.len() + 1..).ok_or_else(cut_short)?;
    String::from_utf8(key.to_vec()).map_err(StoreError::new)
}

/// The key of a ready event: the queue, a zero byte, its place.
pub(super) fn ready_key(queue: &str, seq: u64) -> Vec<u8> {
    [queue.as_bytes(), &[0], &seq.to_be_bytes()].concat()
}

/// The queue and the place that a ready event's key names.
pub(super) fn split_ready_key(row: &[u8]) -> Result<(&str, u64), StoreError> {
    let (name, seq) = row.split_last_chunk::<COUNTER>().ok_or_else(cut_short)?;
    let name = name.strip_suffix(&[0]).ok_or_else(cut_short)?;
    Ok((
        std::str::from_utf8(name).map_err(StoreError::new)?,
        u64::from_be_bytes(*seq),
    ))
}

/// The key of an event that is held back: when it is due, then its place among those due at that time.
pub(super) fn delayed_key(due: u64, seq: u64) -> Vec<u8> {
    [due.to_be_bytes(), seq.to_be_bytes()].concat()
}

/// When the event of a delayed key is due.
pub(super) fn due_of(row: &[u8]) -> Result<u64, StoreError> {
    row.first_chunk::<COUNTER>()
        .map(|due| u64::from_be_bytes(*due))
        .ok_or_else(cut_short)
}

/// A version and the bytes.
pub(super) fn encode_value(version: u64, value: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes(), value].concat()
}

/// The reverse of [`encode_value`].
pub(super) fn decode_value(row: &[u8]) -> Result<Versioned, StoreError> {
    let (version, value) = row.split_first_chunk::<COUNTER>().ok_or_else(cut_short)?;
    Ok(Versioned {
        value: Bytes::copy_from_slice(value),
        version: u64::from_be_bytes(*version),
    })
}

/// What a queue knows of an event without decoding it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The attempt that its delivery is.
    pub attempt: u32,
    /// Its group.
    pub group: Option<Group>,
    /// Not before this time.
    pub due: u64,
}

/// Where the event follows at once in a row: it is a JSON object.
const UNGROUPED: u8 = b'{';
/// Where the group and the time follow first.
const GROUPED: u8 = 1;

impl Head {
    /// The row of the event: the attempt, where it has one its group and when it is due, and the event.
    pub(super) fn encode(&self, event: &Event) -> Result<Vec<u8>, StoreError> {
        let mut row = Vec::with_capacity(512 + event.data.len() / 3 * 4);
        row.extend_from_slice(&self.attempt.to_be_bytes());
        if let Some(group) = self.group {
            row.push(GROUPED);
            row.extend_from_slice(&group.to_bytes());
            row.extend_from_slice(&self.due.to_be_bytes());
        }
        serde_json::to_writer(&mut row, event).map_err(StoreError::new)?;
        Ok(row)
    }

    /// The head of a row, and the rest: the event.
    pub(super) fn split(row: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        let (attempt, rest) = row.split_first_chunk().ok_or_else(cut_short)?;
        let attempt = u32::from_be_bytes(*attempt);
        let (group, due, event) = match rest.split_first() {
            Some((&UNGROUPED, _)) => (None, 0, rest),
            Some((&GROUPED, rest)) => {
                let (group, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
                let (due, event) = rest.split_first_chunk().ok_or_else(cut_short)?;
                (Some(Group::from_bytes(*group)), u64::from_be_bytes(*due), event)
            }
            _ => return Err(StoreError("a row is no event".into())),
        };
        Ok((Self { attempt, group, due }, event))
    }
}

/// The event of a row without its head.
pub(super) fn decode_event(event: &[u8]) -> Result<Event, StoreError> {
    serde_json::from_slice(event).map_err(StoreError::new)
}

/// The queue, then the row that will be in it.
pub(super) fn encode_delayed(queue: &str, event: &[u8]) -> Vec<u8> {
    [queue.as_bytes(), &[0], event].concat()
}

/// The reverse of [`encode_delayed`].
pub(super) fn split_delayed(row: &[u8]) -> Result<(&str, &[u8]), StoreError> {
    let end = row.iter().position(|byte| *byte == 0).ok_or_else(cut_short)?;
    let (queue, event) = row.split_at(end);
    Ok((
        std::str::from_utf8(queue).map_err(StoreError::new)?,
        event.get(1..).ok_or_else(cut_short)?,
    ))
}

/// A counter of the `meta` keyspace.
pub(super) fn decode_counter(row: &[u8]) -> Result<u64, StoreError> {
    row.try_into().map(u64::from_be_bytes).map_err(StoreError::new)
}

/// An object in the index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ObjectRow {
    /// Names the file that holds the bytes.
    pub blob: String,
    /// What the outside sees.
    pub meta: ObjectMeta,
}

impl ObjectRow {
    pub(super) fn decode(row: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(row).map_err(StoreError::new)
    }
}

/// The rows of a scan; none when no key can lie between.
pub(super) type Range = Option<(Bound<Vec<u8>>, Bound<Vec<u8>>)>;

/// The rows of the entries whose key starts with `prefix`, strictly beyond `after` in the given order.
pub(super) fn scan(name: &str, prefix: &str, after: Option<&str>, order: Order) -> Result<Range, StoreError> {
    let first = entry_key(name, prefix)?;
    let end = successor(first.clone());
    let after = after.map(|after| entry_key(name, after)).transpose()?;
    let (lower, upper) = match (after, order) {
        (Some(after), Order::Ascending) if after >= first => (Bound::Excluded(after), Bound::Excluded(end)),
        (Some(after), Order::Descending) if after < end => (Bound::Included(first), Bound::Excluded(after)),
        _ => (Bound::Included(first), Bound::Excluded(end)),
    };
    let empty = match (&lower, &upper) {
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper)) => lower >= upper,
        _ => false,
    };
    Ok((!empty).then_some((lower, upper)))
}

/// The first key after all those that start with `prefix`, which holds a byte below 255.
fn successor(mut prefix: Vec<u8>) -> Vec<u8> {
    while prefix.pop_if(|last| *last == u8::MAX).is_some() {}
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}

fn cut_short() -> StoreError {
    StoreError("a row is cut short".into())
}
