//! The corpus through every fuzzer, with what a seeded generator makes of it: a short run of what `cargo xtask fuzz`
//! does for as long as one likes.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Once;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Changed inputs for each file of the corpus.
const CHANGED: usize = 40;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = std::fs::read_dir(folder).unwrap();
    let mut inputs: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 3, "{} inputs for `{target}`", inputs.len());
    inputs
}

/// A panic in a task of the host would only end that task: here it ends the test.
fn end_with_any_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            std::process::abort();
        }));
    });
}

fn try_all(target: &str, fuzz: fn(&[u8])) {
    end_with_any_panic();
    let inputs = corpus(target);
    let mut luck = StdRng::seed_from_u64(2026);
    for (path, input) in &inputs {
        eprintln!("{}", path.display());
        fuzz(input);
        for _ in 0..CHANGED {
            fuzz(&changed(input, &inputs, &mut luck));
        }
    }
}

/// An input with a few changes: bytes flipped, cut out, repeated, or taken from another input.
fn changed(input: &[u8], inputs: &[(PathBuf, Vec<u8>)], luck: &mut StdRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..luck.random_range(1..6) {
        let (from, to) = (
            luck.random_range(0..=bytes.len()),
            luck.random_range(0..=bytes.len()),
        );
        let (from, to) = (from.min(to), from.max(to));
        match luck.random_range(0..5) {
            0 => bytes
                .iter_mut()
                .skip(from)
                .take(1)
                .for_each(|byte| *byte ^= 1 << luck.random_range(0..8)),
            1 => drop(bytes.drain(from..to)),
            2 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(to..to, again);
            }
            3 => {
                let other = &inputs[luck.random_range(0..inputs.len())].1;
                let end = other.len().min(luck.random_range(0..64));
                bytes.splice(from..from, other[..end].iter().copied());
            }
            _ => bytes.splice(from..from, [luck.random::<u8>()]).for_each(drop),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

#[test]
fn any_manifest_is_read_or_refused_with_a_reason() {
    try_all("manifest", tidegate_fuzz::manifest);
}

#[test]
fn any_bytes_sent_as_an_event_are_answered() {
    try_all("event", tidegate_fuzz::event);
}

#[test]
fn any_bytes_are_loaded_as_a_component_or_refused_with_a_reason() {
    try_all("component", tidegate_fuzz::component);
}

#[test]
fn every_s3_request_of_the_corpus_gets_past_the_door() {
    for (path, input) in corpus("s3") {
        let status = tidegate_fuzz::s3_status(&input);
        let refused = status.is_none_or(|status| status == 401 || status == 403);
        assert!(!refused, "`{}` is answered {status:?}", path.display());
    }
}

#[test]
fn any_s3_request_is_answered_without_an_error_of_the_host() {
    try_all("s3", tidegate_fuzz::s3);
}
