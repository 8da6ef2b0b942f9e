//! Requests that a guest sends out: to the hosts that its manifest grants, and by no name to this machine itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request};

use super::Call;
use crate::records::Level;

/// What sends the requests of one invocation.
pub(super) struct Outbound {
    call: Arc<Call>,
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = (Response<WasiBody>, Io);

impl Outbound {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self { call }
    }

    /// Whether the manifest grants the host.
    fn allows(&self, authority: Option<&Authority>) -> Result<(), String> {
        let host = authority.map_or("", Authority::as_str);
        let spec = &self.call.spec;
        spec.grants.allows_http(&spec.name, host)?;
        self.call.may_reach(host)
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Io,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let allowed = self.allows(request.uri().authority());
        let call = self.call.clone();
        Box::new(async move {
            let denied = |reason| {
                call.log(Level::Warn, reason);
                Error::HttpRequestDenied
            };
            allowed.map_err(denied)?;
            let address = address_of(request.uri()).await.map_err(denied)?;
            let request = pinned(request, address)?;
            let (response, io) = default_send_request(request, options).await?;
            let io: Io = Box::new(io);
            Ok((response.map(|body| body.boxed_unsync()), io))
        })
    }
}

async fn address_of(uri: &Uri) -> Result<SocketAddr, String> {
    let port = uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 });
    resolve(uri.host().unwrap_or_default(), port).await
}

/// Where a granted host is. A name must not lead to this machine or to its link: whoever grants a name does not
/// mean those. Whoever does grants `localhost`, or the address as it is usually written.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let meant = plain.eq_ignore_ascii_case("localhost") || plain.parse::<IpAddr>().is_ok();
    let found = tokio::net::lookup_host((plain, port)).await;
    let found: Vec<_> = found
        .map_err(|error| format!("the host `{host}` is not found: {error}"))?
        .collect();
    let inside = found
        .iter()
        .find(|address| is_inside(address.ip()))
        .filter(|_| !meant);
    if let Some(address) = inside {
        let ip = address.ip();
        return Err(format!(
            "the host `{host}` leads to `{ip}`, an address of this machine or its link; grant `{ip}` itself if that is meant"
        ));
    }
    found
        .first()
        .copied()
        .ok_or_else(|| format!("the host `{host}` has no address"))
}

/// The request to the very address that was looked at: a name might lead elsewhere the next time. Over TLS the name
/// stays, as the server has to prove it.
fn pinned(mut request: Request<WasiBody>, address: SocketAddr) -> Result<Request<WasiBody>, Error> {
    if is_tls(request.uri()) {
        return Ok(request);
    }
    let mut parts = request.uri().clone().into_parts();
    let named = parts
        .authority
        .replace(Authority::try_from(address.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?);
    let named = named.map(|authority| HeaderValue::from_str(authority.as_str()));
    let named = named.transpose().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    if let Some(named) = named {
        request.headers_mut().entry(HOST).or_insert(named);
    }
    Ok(request)
}

fn is_tls(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// Whether an address is of this machine, of its link (where clouds keep their credentials), or of no one host; also
/// as IPv6 writes those of IPv4.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.octets()[0] == 0
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let [.., high, low] = v6.segments();
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            // Mapped (`::ffff:a.b.c.d`), compatible (`::a.b.c.d`) and translated (`64:ff9b::a.b.c.d`).
            let carries_v4 = matches!(
                v6.segments(),
                [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..]
            );
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || carries_v4 && is_inside(IpAddr::from([a, b, c, d]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_its_link_are_known_in_every_form() {
        let inside = [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
        ];
        for address in inside {
            assert!(is_inside(address.parse().unwrap()), "{address}");
        }
        for address in [
            "10.0.0.1",
            "192.0.2.1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_inside(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_unless_it_is_meant() {
        for hidden in ["127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1"] {
            let uri = format!("http://{hidden}:9/").parse().unwrap();
            let refused = address_of(&uri).await.unwrap_err();
            assert!(refused.contains("leads to `127.0.0.1`"), "{hidden}: {refused}");
        }
        for meant in ["localhost", "127.0.0.1", "[::1]"] {
            let uri = format!("http://{meant}:9/").parse().unwrap();
            let address = address_of(&uri).await.unwrap();
            assert!(
                address.ip().is_loopback() && address.port() == 9,
                "{meant}: {address}"
            );
        }
    }
}
