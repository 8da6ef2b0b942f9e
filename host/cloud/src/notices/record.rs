//! One notice in S3's own words, or in EventBridge's.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;

use super::envelope::Unreadable;
use super::{Change, Notice, Sequencer};

/// A record of a message of S3, version 2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    event_source: String,
    aws_region: String,
    event_time: String,
    event_name: String,
    #[serde(default)]
    response_elements: ResponseElements,
    s3: About,
}

#[derive(Default, Deserialize)]
struct ResponseElements {
    #[serde(rename = "x-amz-request-id")]
    request: Option<String>,
    #[serde(rename = "x-amz-id-2")]
    host: Option<String>,
}

#[derive(Deserialize)]
struct About {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    #[serde(default)]
    size: u64,
    #[serde(default, rename = "eTag", alias = "etag")]
    etag: String,
    #[serde(rename = "versionId", alias = "version-id")]
    version: Option<String>,
    sequencer: Option<String>,
}

/// The detail of an event of EventBridge.
#[derive(Deserialize)]
pub(super) struct Detail {
    bucket: Bucket,
    object: Object,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "deletion-type")]
    deletion: String,
}

impl Record {
    /// The notice; none where the object is neither written nor removed.
    pub(super) fn notice(self, data: &Value) -> Result<Option<Notice>, Unreadable> {
        let name = self.event_name.strip_prefix("s3:").unwrap_or(&self.event_name);
        let elements = self.response_elements;
        let request = elements.request.zip(elements.host);
        let About { bucket, object } = self.s3;
        let key = decoded(&object.key)?;
        let time = millis(&self.event_time)?;
        let Some(change) = object.change(name) else {
            return Ok(None);
        };
        Ok(Some(Notice {
            bucket: bucket.name,
            key,
            change,
            sequencer: object.place(time)?,
            name: name.to_owned(),
            origin: format!("{}.{}", self.event_source, self.aws_region),
            request: request.map(|(request, host)| format!("{request}.{host}")),
            time,
            data: data.to_string(),
        }))
    }
}

impl Detail {
    /// The notice; none where the object is neither written nor removed. EventBridge does not encode keys.
    pub(super) fn notice(
        self,
        kind: &str,
        time: &str,
        region: &str,
        data: &Value,
    ) -> Result<Option<Notice>, Unreadable> {
        let name = name_of(kind, &self.reason, &self.deletion);
        let time = millis(time)?;
        let Some(change) = self.object.change(&name) else {
            return Ok(None);
        };
        Ok(Some(Notice {
            change,
            sequencer: self.object.place(time)?,
            bucket: self.bucket.name,
            key: self.object.key,
            name,
            origin: format!("aws:s3.{region}"),
            request: None,
            time,
            data: data.to_string(),
        }))
    }
}

/// What S3's own notice would be called.
fn name_of(kind: &str, reason: &str, deletion: &str) -> String {
    match kind {
        "Object Created" => {
            let way = match reason {
                "PutObject" => "Put",
                "POST Object" => "Post",
                "CopyObject" => "Copy",
                "CompleteMultipartUpload" => "CompleteMultipartUpload",
                other => other,
            };
            format!("ObjectCreated:{way}")
        }
        "Object Deleted" => {
            let cause = match reason {
                "Lifecycle Expiration" => "LifecycleExpiration",
                _ => "ObjectRemoved",
            };
            let way = match deletion {
                "Delete Marker Created" => "DeleteMarkerCreated",
                _ => "Delete",
            };
            format!("{cause}:{way}")
        }
        other => other.to_owned(),
    }
}

impl Object {
    fn change(&self, name: &str) -> Option<Change> {
        let (kind, way) = name.split_once(':')?;
        match kind {
            "ObjectCreated" => Some(Change::Created {
                size: self.size,
                etag: self.etag.trim_matches('"').to_owned(),
                version: self.version(),
            }),
            // The version of a delete marker is the marker's own: it hides all others.
            "ObjectRemoved" | "LifecycleExpiration" => {
                let whole = way == "DeleteMarkerCreated";
                Some(Change::Removed(self.version().filter(|_| !whole)))
            }
            _ => None,
        }
    }

    fn version(&self) -> Option<String> {
        self.version.clone().filter(|version| !version.is_empty())
    }

    fn place(&self, time: u64) -> Result<Sequencer, Unreadable> {
        let Some(text) = &self.sequencer else {
            return Ok(Sequencer::at(time));
        };
        Sequencer::parse(text).ok_or_else(|| {
            let text = text.escape_debug();
            Unreadable::Malformed(format!("the sequencer `{text}` is no hexadecimal number"))
        })
    }
}

fn millis(text: &str) -> Result<u64, Unreadable> {
    let time = DateTime::parse_from_rfc3339(text).ok();
    let millis = time.and_then(|time| u64::try_from(time.timestamp_millis()).ok());
    millis.ok_or_else(|| Unreadable::Malformed(format!("`{}` is no time", text.escape_debug())))
}

/// A key as it is: S3 encodes it as a form does, a space as `+`.
fn decoded(key: &str) -> Result<String, Unreadable> {
    let wrong = || {
        Unreadable::Malformed(format!(
            "the key `{}` is not encoded as a URL is",
            key.escape_debug()
        ))
    };
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let value = digit().zip(digit()).map(|(high, low)| 16 * high + low);
                value
                    .and_then(|value| u8::try_from(value).ok())
                    .ok_or_else(wrong)?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
