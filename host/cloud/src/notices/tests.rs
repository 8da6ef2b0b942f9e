//! Messages as Amazon's documentation shows them, and what they are read as.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn record() -> Value {
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventTime": "1970-01-01T00:00:01.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": "AIDAJDPLRKLG7UEXAMPLE" },
        "requestParameters": { "sourceIPAddress": "172.16.0.1" },
        "responseElements": {
            "x-amz-request-id": "C3D13FE58DE4C810",
            "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testConfigRule",
            "bucket": {
                "name": "amzn-s3-demo-bucket",
                "ownerIdentity": { "principalId": "A3NL1KOZZKExample" },
                "arn": "arn:aws:s3:::amzn-s3-demo-bucket"
            },
            "object": {
                "key": "Happy+Face%2B%C3%BC.jpg",
                "size": 1024,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": "0055AED6DCD90281E5"
            }
        }
    })
}

fn bridge() -> Value {
    json!({
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2021-11-12T00:00:00Z",
        "region": "ca-central-1",
        "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
        "detail": {
            "version": "0",
            "bucket": { "name": "amzn-s3-demo-bucket1" },
            "object": {
                "key": "example+key",
                "size": 5,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "617f08299329d189"
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject"
        }
    })
}

fn records(list: &[Value]) -> String {
    json!({ "Records": list }).to_string()
}

fn only(text: &str) -> Notice {
    let mut notices = read(text).unwrap();
    assert_eq!(notices.len(), 1, "{text}");
    notices.remove(0)
}

/// A record with another value at a place.
fn with(mut record: Value, place: &str, value: Value) -> Value {
    *record.pointer_mut(place).unwrap() = value;
    record
}

#[test]
fn a_record_of_s3_is_read_and_its_key_is_decoded() {
    let notice = only(&records(&[record()]));
    assert_eq!(
        (notice.bucket.as_str(), notice.key.as_str()),
        ("amzn-s3-demo-bucket", "Happy Face+ü.jpg")
    );
    assert_eq!(notice.time, 1000);
    assert_eq!(notice.sequencer, Sequencer::parse("0055aed6dcd90281e5").unwrap());
    let created = Change::Created {
        size: 1024,
        etag: "d41d8cd98f00b204e9800998ecf8427e".into(),
        version: Some("096fKKXTRTtl3on89fVO.nfljtsv6qko".into()),
    };
    assert_eq!(notice.change, created);
}

#[test]
fn a_notice_is_the_cloud_event_that_the_specification_says() {
    let event = only(&records(&[record()])).cloud_event();
    let id = "C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD";
    assert_eq!(
        (event.id.as_str(), event.source.as_str()),
        (id, "aws:s3.us-west-2.amzn-s3-demo-bucket")
    );
    assert_eq!(event.kind, "com.amazonaws.s3.ObjectCreated:Put");
    assert_eq!(event.subject.as_deref(), Some("Happy Face+ü.jpg"));
    assert_eq!(
        (event.time, event.content_type.as_deref()),
        (1000, Some("application/json"))
    );
    assert_eq!(serde_json::from_slice::<Value>(&event.data).unwrap(), record());
}

#[test]
fn objects_that_one_request_removes_are_told_apart() {
    let removed = |key: &str| {
        let record = with(record(), "/eventName", json!("ObjectRemoved:Delete"));
        only(&records(&[with(record, "/s3/object/key", json!(key))]))
            .cloud_event()
            .id
    };
    assert_ne!(removed("a"), removed("b"));
    assert_eq!(removed("a"), removed("a"));
}

#[test]
fn sns_wraps_a_message_and_may_leave_it_as_it_is() {
    let inner = records(&[record()]);
    let envelope = json!({
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Subject": "Amazon S3 Notification",
        "Message": inner,
        "Timestamp": "2012-05-02T00:54:06.655Z"
    });
    assert_eq!(only(&envelope.to_string()), only(&inner));
}

#[test]
fn eventbridge_tells_the_same_in_other_words_and_does_not_encode_keys() {
    let notice = only(&bridge().to_string());
    assert_eq!(
        (notice.bucket.as_str(), notice.key.as_str()),
        ("amzn-s3-demo-bucket1", "example+key")
    );
    assert_eq!(notice.name, "ObjectCreated:Put");
    assert!(matches!(notice.change, Change::Created { size: 5, .. }));
    let event = notice.cloud_event();
    assert_eq!(event.id, "17793124-05d4-b198-2fde-7ededc63b103");
    assert_eq!(event.source, "aws:s3.ca-central-1.amzn-s3-demo-bucket1");
    let mut deleted = with(bridge(), "/detail-type", json!("Object Deleted"));
    deleted["detail"]["reason"] = json!("DeleteObject");
    deleted["detail"]["deletion-type"] = json!("Delete Marker Created");
    let notice = only(&deleted.to_string());
    assert_eq!(
        (notice.name.as_str(), notice.change),
        ("ObjectRemoved:DeleteMarkerCreated", Change::Removed(None))
    );
}

#[test]
fn a_removal_is_of_one_version_or_of_all() {
    let removed = |name: &str| only(&records(&[with(record(), "/eventName", json!(name))])).change;
    let version = Some("096fKKXTRTtl3on89fVO.nfljtsv6qko".to_owned());
    assert_eq!(removed("ObjectRemoved:Delete"), Change::Removed(version.clone()));
    assert_eq!(removed("LifecycleExpiration:Delete"), Change::Removed(version));
    assert_eq!(
        removed("ObjectRemoved:DeleteMarkerCreated"),
        Change::Removed(None)
    );
}

#[test]
fn a_test_event_and_what_changes_no_object_tell_of_nothing() {
    let test = json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2014-10-13T15:57:02.089Z",
        "Bucket": "amzn-s3-demo-bucket",
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"
    });
    assert_eq!(read(&test.to_string()), Ok(Vec::new()));
    let tagged = with(record(), "/eventName", json!("ObjectTagging:Put"));
    assert_eq!(read(&records(&[tagged])), Ok(Vec::new()));
}

#[test]
fn a_service_that_tells_no_sequencer_is_ordered_by_time() {
    let at = |time: &str| {
        let mut record = with(record(), "/eventTime", json!(time));
        record["s3"]["object"]
            .as_object_mut()
            .unwrap()
            .remove("sequencer");
        only(&records(&[record])).sequencer
    };
    assert!(at("2024-01-01T00:00:00.001Z") < at("2024-01-01T00:00:00.002Z"));
}

#[test]
fn what_is_no_notice_says_what_was_found() {
    let told = |text: &str| read(text).unwrap_err().to_string();
    assert!(told("tide").starts_with("a notice that cannot be read: "));
    assert!(told(r#"{"orderId": 7}"#).starts_with("a message with `orderId`, expected S3's `Records`"));
    assert!(told("[]").starts_with("a message with no keys"));
    let key = |key: &str| told(&records(&[with(record(), "/s3/object/key", json!(key))]));
    assert_eq!(
        key("a%2"),
        "a notice that cannot be read: the key `a%2` is not encoded as a URL is"
    );
    assert_eq!(
        key("%ff"),
        "a notice that cannot be read: the key `%ff` is not encoded as a URL is"
    );
    let sequencer = with(record(), "/s3/object/sequencer", json!("late"));
    assert!(told(&records(&[sequencer])).contains("the sequencer `late` is no hexadecimal number"));
}

proptest! {
    #[test]
    fn every_key_comes_through_the_encoding_of_s3(key in "\\PC{1,40}") {
        let encoded: String = key.bytes().map(|byte| match byte {
            b' ' => "+".to_owned(),
            plain if plain.is_ascii_alphanumeric() => char::from(plain).to_string(),
            other => format!("%{other:02X}"),
        }).collect();
        prop_assert_eq!(only(&records(&[with(record(), "/s3/object/key", json!(encoded))])).key, key);
    }

    #[test]
    fn no_text_is_too_odd_to_be_refused(text in "\\PC{0,200}") {
        let _is_read_or_refused = read(&text);
    }
}
