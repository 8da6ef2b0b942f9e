//! The keys of the one table: `pk` says what kind of row it is and of whom, `sk` orders the rows of one `pk`.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::{Group, StoreError};

use crate::items::{Item, text};
use crate::stamps::spread;

/// Partitions that the rows of one queue, the outbox and the garbage are spread over.
pub(crate) const SHARDS: u32 = 4;
/// Bytes of a sort key at most; one goes to the sign before it.
const LONGEST: usize = 1023;

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl Key {
    /// The row's key attributes.
    pub(crate) fn item(&self) -> Item {
        Item::from([
            ("pk".to_owned(), text(&self.pk)),
            ("sk".to_owned(), text(&self.sk)),
        ])
    }
}

/// The partition of a table of state.
pub(crate) fn table(name: &str) -> String {
    format!("t#{name}")
}

/// The partition of a bucket's index.
pub(crate) fn bucket(name: &str) -> String {
    format!("o#{name}")
}

/// The partition of what is declared beside the platform; its sort keys are `APP/FUNCTION`.
pub(crate) const DECLARED: &str = "declared";

/// The partition, and the sort key, of the row that holds up commits.
pub(crate) const HOLD: &str = "hold";

/// The row that holds up commits.
pub(crate) fn hold() -> Key {
    Key {
        pk: HOLD.to_owned(),
        sk: HOLD.to_owned(),
    }
}

/// A sort key that orders as its text does; a sort key cannot be empty.
pub(crate) fn sortable(key: &str) -> String {
    format!("={key}")
}

/// What [`sortable`] was made of.
pub(crate) fn sorted(item: &Item) -> &str {
    let key = item.get("sk").and_then(|sk| sk.as_s().ok());
    key.and_then(|key| key.strip_prefix('=')).unwrap_or_default()
}

/// A row of state.
pub(crate) fn state(table_name: &str, key: &str) -> Result<Key, StoreError> {
    named(table(table_name), key)
}

/// A row of a bucket's index.
pub(crate) fn object(bucket_name: &str, key: &str) -> Result<Key, StoreError> {
    named(bucket(bucket_name), key)
}

fn named(pk: String, key: &str) -> Result<Key, StoreError> {
    if key.len() > LONGEST || pk.len() > LONGEST {
        return Err(StoreError(format!(
            "a key of {} bytes in a table of {} bytes, allowed are {LONGEST} each",
            key.len(),
            pk.len()
        )));
    }
    Ok(Key {
        pk,
        sk: sortable(key),
    })
}

/// Where an event is in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) queue: String,
    #[serde(with = "hex::maybe", default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<Group>,
    pub(crate) seq: u64,
}

impl Place {
    /// The event's row.
    pub(crate) fn key(&self) -> Key {
        let sk = match self.group {
            None => format!("e#{:020}", self.seq),
            Some(group) => format!("{}{:020}", in_lane(group), self.seq),
        };
        Key {
            pk: partition(&self.queue, self.shard()),
            sk,
        }
    }

    /// The place that a row of a queue stands for.
    pub(crate) fn of_row(queue: &str, row: &Item) -> Option<Self> {
        let sk = row.get("sk").and_then(|sk| sk.as_s().ok())?;
        let group = match sk.strip_prefix("e@") {
            None => None,
            Some(lane) => Some(hex::read(lane.split_once('#')?.0)?),
        };
        Some(Self {
            queue: queue.to_owned(),
            group,
            seq: seq_of(row)?,
        })
    }

    fn shard(&self) -> u32 {
        match self.group {
            None => (spread(self.seq) % u64::from(SHARDS)) as u32,
            Some(group) => group.among(SHARDS),
        }
    }
}

/// A partition of a queue's rows.
pub(crate) fn partition(queue: &str, shard: u32) -> String {
    format!("q#{queue}#{shard}")
}

/// The queue that a partition is of; none where it is of no queue.
pub(crate) fn queue_of(partition: &str) -> Option<&str> {
    let (queue, _shard) = partition.strip_prefix("q#")?.rsplit_once('#')?;
    Some(queue)
}

/// What the sort keys of a queue's events begin with.
pub(crate) const EVENTS: &str = "e";

/// The partition of a group's events, and what their sort keys begin with.
pub(crate) fn events_of(queue: &str, group: Group) -> (String, String) {
    (partition(queue, group.among(SHARDS)), in_lane(group))
}

fn in_lane(group: Group) -> String {
    format!("e@{}#", hex::of(group))
}

/// The place of an event's row in its queue.
pub(crate) fn seq_of(row: &Item) -> Option<u64> {
    let sk = row.get("sk").and_then(|sk| sk.as_s().ok())?;
    sk.rsplit_once('#')?.1.parse().ok()
}

/// The row that says which event of a group is on its way.
pub(crate) fn lane(queue: &str, group: Group) -> Key {
    Key {
        pk: partition(queue, group.among(SHARDS)),
        sk: format!("l#{}", hex::of(group)),
    }
}

/// A row of the outbox.
pub(crate) fn outbox(unit: &str) -> Key {
    spread_out("x", unit, unit)
}

/// Bytes in the bucket that are staged and not published.
pub(crate) fn staged(blob: &str) -> Key {
    spread_out("s", blob, blob)
}

/// Bytes in the bucket that are removed after a time.
pub(crate) fn garbage(due: u64, blob: &str) -> Key {
    spread_out("g", blob, &format!("{due:020}#{blob}"))
}

/// A state row whose value lies in the bucket.
pub(crate) fn large(blob: &str) -> Key {
    spread_out("v", blob, blob)
}

/// A queue that nobody takes from for now; its name may be empty, which a key may not.
pub(crate) fn retired(queue: &str) -> Key {
    spread_out("r", queue, &format!("={queue}"))
}

/// The partitions of a kind of rows that is spread out.
pub(crate) fn partitions(kind: &str) -> impl Iterator<Item = String> {
    (0..SHARDS).map(move |shard| format!("{kind}#{shard}"))
}

fn spread_out(kind: &str, by: &str, sk: &str) -> Key {
    let last = by.bytes().last().unwrap_or_default();
    Key {
        pk: format!("{kind}#{}", u32::from(last) % SHARDS),
        sk: sk.to_owned(),
    }
}

/// A value for an expression.
pub(crate) fn values<const N: usize>(values: [(&str, AttributeValue); N]) -> Item {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Groups in hexadecimal.
pub(crate) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use tidegate_runtime::store::Group;

    pub(crate) fn of(group: Group) -> String {
        format!("{:032x}", u128::from_be_bytes(group.to_bytes()))
    }

    /// What [`of`] wrote.
    pub(crate) fn read(text: &str) -> Option<Group> {
        let number = u128::from_str_radix(text, 16).ok()?;
        Some(Group::from_bytes(number.to_be_bytes()))
    }

    pub(crate) fn serialize<S: Serializer>(group: &Group, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&of(*group))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Group, D::Error> {
        let text = String::deserialize(from)?;
        read(&text).ok_or_else(|| D::Error::custom("no group"))
    }

    /// Of those that may have none.
    pub(crate) mod maybe {
        use super::{Deserialize, Deserializer, Group, Serializer};

        #[derive(serde::Serialize, serde::Deserialize)]
        struct Hex(#[serde(with = "super")] Group);

        pub(crate) fn serialize<S: Serializer>(group: &Option<Group>, to: S) -> Result<S::Ok, S::Error> {
            serde::Serialize::serialize(&group.map(Hex), to)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Group>, D::Error> {
            let found = Option::<Hex>::deserialize(from)?;
            Ok(found.map(|Hex(group)| group))
        }
    }
}
