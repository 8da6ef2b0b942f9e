//! `allowed_outbound_hosts`: where a component may connect to.

use super::super::grants::is_authority;
use super::super::walk::quoted;

/// A host with how it is spoken to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outbound {
    Http(String),
    Redis(String),
}

/// Reads `https://example.com`, `http://127.0.0.1:8000`. A host without a port is one in every port.
pub(super) fn outbound(text: &str) -> Result<Outbound, String> {
    let expected = "`http://`, `https://` or `redis://` with a host and perhaps a port, without wildcards, ranges and paths";
    let wrong = || format!("found {}, expected {expected}", quoted(text));
    let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
    let host = host.strip_suffix('/').unwrap_or(host);
    if host == "self" || host.ends_with(".alt") {
        return Err(format!(
            "found {}, but a component cannot call its own app by `self`",
            quoted(text)
        ));
    }
    if !is_authority(host) {
        return Err(wrong());
    }
    match scheme {
        "http" | "https" => Ok(Outbound::Http(host.to_owned())),
        "redis" => Ok(Outbound::Redis(host.to_owned())),
        _ => Err(wrong()),
    }
}
