use super::*;
use crate::manifest::Manifest;
use crate::records::Level;
use crate::store::memory::Memory;

fn handled(run: &str, bytes: usize) -> Handled {
    let text = "[app]\nname = \"a\"\n[[function]]\nname = \"f\"\ncomponent = \"f.wasm\"\n";
    let event = Event {
        id: run.into(),
        source: "/http".into(),
        kind: "tidegate.http".into(),
        subject: Some("/path".into()),
        time: 0,
        content_type: None,
        data: Bytes::new(),
        traceparent: String::new(),
        run: run.into(),
        parent: None,
        part_of: None,
    };
    Handled {
        spec: Arc::new(Manifest::parse(text, "t").unwrap().functions.remove(0)),
        event: Arc::new(event),
        method: http::Method::GET,
        request_id: None,
        status: http::StatusCode::OK,
        wall: Duration::ZERO,
        usage: Usage::default(),
        effects: EffectCounts::default(),
        reason: None,
        lines: vec![LogLine {
            at: 0,
            level: Level::Info,
            message: "x".repeat(bytes),
        }],
    }
}

fn runs(newest: &Newest) -> Vec<&str> {
    let runs = newest.requests.iter();
    runs.map(|handled| handled.event.run.as_str()).collect()
}

#[test]
fn what_waits_is_bounded_in_number_and_bytes_and_the_oldest_make_room() {
    let mut newest = Newest::default();
    for run in ["a", "b", "c"] {
        newest.push(handled(run, 10), 2);
    }
    assert_eq!((runs(&newest), newest.bytes), (vec!["b", "c"], 20));
    newest.push(handled("d", WAITING_BYTES), 100);
    newest.push(handled("e", 1), 100);
    assert_eq!((runs(&newest), newest.bytes), (vec!["e"], 1));
}

#[test]
fn what_was_not_written_waits_again_before_what_came_meanwhile() {
    let requests = Requests::new(KeptRequests {
        newest: 2,
        ..KeptRequests::default()
    });
    assert!(requests.push(handled("a", 0)), "the first is told to be written");
    assert!(!requests.push(handled("b", 0)));
    let waiting = std::mem::take(&mut *requests.waiting());
    assert!(requests.push(handled("c", 0)));
    for (name, newest) in waiting.functions {
        requests.put_back(name, newest.requests);
    }
    assert_eq!(runs(&requests.waiting().functions["f"]), ["b", "c"]);
}

#[tokio::test]
async fn a_reader_sees_what_waits() {
    let records = Records::new(Arc::new(Memory::default()), KeptRequests::default());
    records.requests.push(handled("a", 5));
    let filter = RequestFilter::default();
    let found = records.requests(&filter, 10).await.unwrap();
    assert_eq!((found.len(), found[0].run.as_str(), found[0].lines), (1, "a", 1));
}
