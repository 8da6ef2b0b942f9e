//! Identities: the ids of what an invocation asks for are the same on every attempt with the same events.

use super::Input;

/// The id of the `ordinal`-th event or job that a function asks for while it handles an event, or a batch by its
/// [`batch_id`].
pub fn derived_id(function: &str, event: &str, ordinal: usize) -> String {
    digest([function.as_bytes(), event.as_bytes(), &ordinal.to_le_bytes()])
}

/// What names a batch of several events. Of two groupings that share an event only one can be committed, and
/// groupings that share none have different names: so no id of one is ever an id of another.
pub fn batch_id<'a>(events: impl IntoIterator<Item = &'a str>) -> String {
    digest(events.into_iter().map(str::as_bytes))
}

/// What names the events of an invocation.
pub(super) fn identity_of(first: &Input, others: &[Input]) -> String {
    if others.is_empty() {
        return first.event.id.clone();
    }
    let all = std::iter::once(first).chain(others);
    batch_id(all.map(|input| input.event.id.as_str()))
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_hex()[..32].to_owned()
}
