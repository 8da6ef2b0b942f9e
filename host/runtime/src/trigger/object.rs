//! The event that an object was written.

use bytes::Bytes;
use serde_json::json;

use super::OBJECT_CREATED;
use crate::event::Event;
use crate::store::Publication;

/// The event of a publication; none for a deletion. Its run and trace are the caller's to set.
///
/// The id is drawn from the bucket, the key and the staged bytes, which no other publication has: committing
/// a publication again is the same event. The store gives the sequencer only as it commits, after this.
pub fn object_created(publication: &Publication, now: u64) -> Option<Event> {
    let staged = publication.staged.as_ref()?;
    let data = json!({
        "bucket": publication.bucket,
        "key": publication.key,
        "size": staged.size,
        "etag": staged.etag,
        "content_type": publication.content_type,
    });
    Some(Event {
        id: id_of(&publication.bucket, &publication.key, &staged.blob),
        source: format!("/objects/{}", publication.bucket),
        kind: OBJECT_CREATED.into(),
        subject: Some(publication.key.clone()),
        time: now,
        content_type: Some("application/json".into()),
        data: Bytes::from(data.to_string()),
        traceparent: String::new(),
        run: String::new(),
        parent: None,
        part_of: None,
    })
}

fn id_of(bucket: &str, key: &str, blob: &str) -> String {
    let mut hash = blake3::Hasher::new();
    for part in [bucket, key, blob] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize().to_hex();
    format!("object-{}", digest.get(..32).unwrap_or(&digest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::{Condition, Staged};

    fn publication(bucket: &str, key: &str, blob: Option<&str>) -> Publication {
        Publication {
            bucket: bucket.into(),
            key: key.into(),
            staged: blob.map(|blob| Staged {
                blob: blob.into(),
                size: 3,
                etag: "e".into(),
            }),
            content_type: Some("text/csv".into()),
            user: BTreeMap::new(),
            condition: Condition::None,
        }
    }

    #[test]
    fn the_event_says_what_was_written() {
        let event = object_created(&publication("data", "raw/x.csv", Some("b1")), 7).unwrap();
        assert_eq!(
            (event.kind.as_str(), event.source.as_str(), event.time),
            (OBJECT_CREATED, "/objects/data", 7)
        );
        assert_eq!(event.subject.as_deref(), Some("raw/x.csv"));
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        let expected = json!({ "bucket": "data", "key": "raw/x.csv", "size": 3, "etag": "e", "content_type": "text/csv" });
        assert_eq!(data, expected);
    }

    #[test]
    fn a_deletion_is_no_creation() {
        assert_eq!(object_created(&publication("data", "x", None), 7), None);
    }

    #[test]
    fn the_same_publication_is_the_same_event_and_no_other_is() {
        let id = |bucket, key, blob| {
            object_created(&publication(bucket, key, Some(blob)), 7)
                .unwrap()
                .id
        };
        assert_eq!(id("data", "x", "b1"), id("data", "x", "b1"));
        let others = [
            id("data", "x", "b2"),
            id("data", "y", "b1"),
            id("dat", "ax", "b1"),
            id("other", "x", "b1"),
        ];
        assert!(others.iter().all(|other| *other != id("data", "x", "b1")));
    }
}
