//! A notice as a CloudEvent, as the specification's adapter for S3 maps it (`adapters/aws-s3.md`).

use bytes::Bytes;
use tidegate_runtime::event::Event;

use super::{Change, Notice};

impl Notice {
    /// The event; its run and trace are the platform's to set.
    pub(super) fn cloud_event(&self) -> Event {
        Event {
            id: self.event_id(),
            source: format!("{}.{}", self.origin, self.bucket),
            kind: format!("com.amazonaws.s3.{}", self.name),
            subject: Some(self.key.clone()),
            time: self.time,
            content_type: Some("application/json".into()),
            data: Bytes::from(self.data.clone()),
            traceparent: String::new(),
            run: String::new(),
            parent: None,
            part_of: None,
        }
    }

    /// The request that caused it, as the adapter has it. One request may remove many objects, and an event is handled
    /// once for each id: of a removal the key is a part of it.
    fn event_id(&self) -> String {
        match (&self.request, &self.change) {
            (Some(request), Change::Created { .. }) => request.clone(),
            (Some(request), Change::Removed(_)) => format!("{request}.{}", self.key),
            (None, _) => {
                let place = format!("{:?}", (&self.bucket, &self.key, &self.sequencer));
                format!("notice-{}", blake3::hash(place.as_bytes()).to_hex())
            }
        }
    }
}
