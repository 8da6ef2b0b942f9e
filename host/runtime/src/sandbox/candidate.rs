//! Components of WASI 0.3's last release candidate (spin-sdk 6 makes them): their names are read as the release's.
//!
//! `0.3.0-rc-2026-03-15` and `0.3.0` have the same types, but a pre-release is compatible with nothing else. As
//! `0.3.0+rc-2026-03-15` it is the release to the linker, and as long as before: it is written in its place.

use std::borrow::Cow;
use std::ops::Range;

use wasmparser::{Parser, Payload};

const CANDIDATE: &[u8] = b"@0.3.0-rc-2026-03-15";
const RELEASE: &[u8] = b"@0.3.0+rc-2026-03-15";

/// The component with the candidate's interfaces, where it has any, named as the release's. Whatever is no component
/// is left to the compiler to refuse.
pub(super) fn as_released(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut released = Cow::Borrowed(bytes);
    for version in versions(bytes).unwrap_or_default() {
        if let Some(place) = released.to_mut().get_mut(version) {
            place.copy_from_slice(RELEASE);
        }
    }
    released
}

/// Where the component's own imports and exports carry the candidate's version.
fn versions(bytes: &[u8]) -> wasmparser::Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut note = |name: &str| {
        if name.starts_with("wasi:") && name.as_bytes().ends_with(CANDIDATE) {
            // The parser's names lie within `bytes`.
            let end = name.as_ptr() as usize + name.len() - bytes.as_ptr() as usize;
            found.push(end - CANDIDATE.len()..end);
        }
    };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    note(import?.name.name);
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    note(export?.name.name);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
