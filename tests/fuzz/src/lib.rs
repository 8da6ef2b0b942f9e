//! What the fuzzers do with their bytes: each function takes any bytes and panics only where the product is at fault.
//!
//! `cargo xtask fuzz` builds them with coverage and lets libFuzzer choose the bytes; `tests/corpus.rs` gives them the
//! corpus, and what it makes of it.

#![allow(clippy::expect_used, clippy::panic)]

mod host;
mod signed;

use std::sync::OnceLock;

use tidegate_runtime::event::Event;
use tidegate_runtime::manifest::Manifest;
use tidegate_runtime::sandbox::{Code, Component, Pool, Sandbox};

use host::Running;

/// A manifest is read, or every mistake in it is told.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Manifest::parse(text, "tidegate.toml") {
        Ok(manifest) => assert_eq!(manifest.text, text),
        Err(mistakes) => assert!(
            !mistakes.to_string().trim().is_empty(),
            "a refusal without a reason"
        ),
    }
}

/// An event that can be read is the same after it was written and read again; and the host answers whoever sends these
/// bytes as an event.
pub fn event(data: &[u8]) {
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        let written = serde_json::to_vec(&event).expect("an event can be written");
        let again: Event = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(again, event);
    }
    let running = Running::get();
    let mut request = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        running.gateway,
        data.len()
    )
    .into_bytes();
    request.extend_from_slice(data);
    answered(running.gateway, &request);
}

/// A component is loaded, or refused with a reason.
pub fn component(data: &[u8]) {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    let pool = Pool {
        instances: 8,
        ..Pool::default()
    };
    let sandbox = SANDBOX.get_or_init(|| Sandbox::new(pool).expect("an engine"));
    if let Err(refused) = Code::load(sandbox, data, None).and_then(Component::of) {
        assert!(
            !refused.to_string().trim().is_empty(),
            "a refusal without a reason"
        );
    }
}

/// The S3 endpoint answers a request, whatever is in it. The bytes are a request line, headers, an empty line and a
/// body, as in HTTP but with bare newlines; it is signed where it can be.
pub fn s3(data: &[u8]) {
    s3_status(data);
}

/// The same, and the status of the answer.
pub fn s3_status(data: &[u8]) -> Option<u16> {
    let running = Running::get();
    answered(running.s3, &signed::request(data, running.s3))
}

/// Asks that something answers, and that it does not blame itself; the answer's status. A connection may be closed
/// without an answer where no request came.
fn answered(address: std::net::SocketAddr, request: &[u8]) -> Option<u16> {
    let answer = host::ask(address, request).expect("the host is there");
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    assert_ne!(status, Some(500), "{text}");
    status
}
