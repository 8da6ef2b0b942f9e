//! Who may call what: `/api/v1`, and whatever else is the operator's, is for this machine, or for those who hold the
//! token; never for a web page.

use http::{HeaderMap, StatusCode, header};

use super::error::ApiError;
use crate::config::GatewayConfig;
use crate::server::Peer;

/// Whether a request to `what`, which is the operator's, is let in.
pub fn management(
    config: &GatewayConfig,
    peer: Peer,
    headers: &HeaderMap,
    host: Option<&str>,
    what: &str,
) -> Result<(), ApiError> {
    if let Some(token) = &config.api_token
        && bearer(headers).is_some_and(|given| same(given, token))
    {
        return Ok(());
    }
    if !peer.is_local() {
        let message = format!(
            "{what} is open to this machine, and to holders of `gateway.api_token` with `Authorization: Bearer`"
        );
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
    }
    refuse_web_pages(config, headers, host, what)
}

/// The token of `Authorization: Bearer`, where it is one of these.
pub fn bearer_among<'a>(tokens: impl IntoIterator<Item = &'a str>, headers: &HeaderMap) -> Option<&'a str> {
    let given = bearer(headers)?;
    tokens.into_iter().find(|token| same(given, token))
}

/// A browser tells where a page comes from, and under which name it was sent here: neither may be foreign.
fn refuse_web_pages(
    config: &GatewayConfig,
    headers: &HeaderMap,
    host: Option<&str>,
    what: &str,
) -> Result<(), ApiError> {
    let own =
        |name: &str| is_local_name(name) || config.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let called = host.or_else(|| text(header::HOST)).map_or("", host_of);
    let origin =
        text(header::ORIGIN).map(|origin| host_of(origin.rsplit_once("//").map_or(origin, |(_, rest)| rest)));
    match [Some(called), origin]
        .into_iter()
        .flatten()
        .find(|name| !own(name))
    {
        None => Ok(()),
        Some(foreign) => {
            let message =
                format!("{what} is not for `{foreign}`; allowed are `localhost` and `gateway.hosts`");
            Err(ApiError::new(StatusCode::FORBIDDEN, message))
        }
    }
}

fn is_local_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The host of `host:port`.
fn host_of(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// Compares without telling by its time how much was right.
fn same(given: &str, expected: &str) -> bool {
    let differences = given
        .bytes()
        .zip(expected.bytes())
        .fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == expected.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.parse().unwrap(),
            secure: true,
            certified: false,
        }
    }

    fn asked(peer: Peer, headers: &[(&str, &str)], token: Option<&str>) -> Option<u16> {
        let map = headers
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    http::HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let config = GatewayConfig {
            api_token: token.map(str::to_owned),
            hosts: vec!["box.example".into()],
            ..crate::config::Config::default().gateway
        };
        management(&config, peer, &map, None, "`/api/v1`")
            .err()
            .map(|error| error.status.as_u16())
    }

    #[test]
    fn this_machine_is_let_in_by_its_own_names() {
        for host in ["localhost:8080", "127.0.0.1:1", "[::1]:8080", "box.example"] {
            assert_eq!(
                asked(peer("127.0.0.1:5"), &[("host", host)], None),
                None,
                "{host}"
            );
        }
        assert_eq!(
            asked(peer("[::ffff:127.0.0.1]:5"), &[("host", "localhost")], None),
            None
        );
    }

    #[test]
    fn a_foreign_page_or_name_is_refused() {
        let local = peer("127.0.0.1:5");
        assert_eq!(asked(local, &[("host", "rebound.example")], None), Some(403));
        assert_eq!(
            asked(
                local,
                &[("host", "localhost"), ("origin", "https://evil.example")],
                None
            ),
            Some(403)
        );
        assert_eq!(
            asked(local, &[("host", "localhost"), ("origin", "null")], None),
            Some(403)
        );
        assert_eq!(
            asked(
                local,
                &[("host", "localhost"), ("origin", "http://localhost:3000")],
                None
            ),
            None
        );
        assert_eq!(asked(local, &[], None), Some(403));
    }

    #[test]
    fn another_machine_needs_the_token() {
        let far = peer("10.0.0.7:5");
        assert_eq!(asked(far, &[("host", "localhost")], None), Some(401));
        assert_eq!(
            asked(far, &[("authorization", "Bearer wrong")], Some("right")),
            Some(401)
        );
        assert_eq!(
            asked(far, &[("authorization", "Bearer right")], Some("right")),
            None
        );
    }
}
