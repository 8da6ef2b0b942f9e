//! S3 requests out of bytes, signed, so that they get past the door.

use std::net::SocketAddr;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;

/// Bytes of what is not the body.
const HEAD: usize = 8 << 10;

/// The request that the bytes describe.
pub fn request(data: &[u8], host: SocketAddr) -> Vec<u8> {
    let end = data
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(data.len());
    let (head, body) = (&data[..end.min(HEAD)], data.get(end + 2..).unwrap_or_default());
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let (method, target) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .unwrap_or(("GET", "/"));
    let mut headers = vec![("host".to_owned(), host.to_string())];
    headers.extend(lines.filter_map(header));
    headers.push(("x-amz-content-sha256".into(), "UNSIGNED-PAYLOAD".into()));
    if let Some(signature) = signature(method, target, host, &headers) {
        headers.extend(signature);
    }
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    ));
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim().to_lowercase(), value.trim().to_owned());
    let ours = [
        "host",
        "content-length",
        "connection",
        "transfer-encoding",
        "x-amz-content-sha256",
    ];
    let valid = http::HeaderName::try_from(&name).is_ok() && http::HeaderValue::try_from(&value).is_ok();
    (valid && !ours.contains(&name.as_str())).then_some((name, value))
}

/// The headers that sign a request with the keys of a host in development; none where it cannot be signed.
fn signature(
    method: &str,
    target: &str,
    host: SocketAddr,
    headers: &[(String, String)],
) -> Option<Vec<(String, String)>> {
    let uri = format!("http://{host}{target}");
    uri.parse::<http::Uri>().ok()?;
    let identity = Credentials::from_keys("tidegate", "tidegate-dev", None).into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .ok()?;
    let named = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(method, uri, named, SignableBody::UnsignedPayload).ok()?;
    let (instructions, _) = sign(signable, &params.into()).ok()?.into_parts();
    let signed = instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(signed.collect())
}
