//! The event that an object was written.

use bytes::Bytes;
use serde_json::json;

use super::OBJECT_CREATED;
use crate::event::Event;
use crate::store::Publication;

/// The event of a publication; none for a deletion. Its run and trace are the caller's to set.
///
/// The id is the staged blob's, so that committing a publication again is the same event.
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
        id: format!("object-{}", staged.blob),
        source: format!("/objects/{}", publication.bucket),
        kind: OBJECT_CREATED.into(),
        subject: Some(publication.key.clone()),
        time: now,
        content_type: Some("application/json".into()),
        data: Bytes::from(data.to_string()),
        traceparent: String::new(),
        run: String::new(),
        parent: None,
    })
}
